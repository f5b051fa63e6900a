#include "tensorrt/log.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdio>

namespace vimdeploy::tensorrt {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> known_finder{nullptr};

// The major version of the TensorRT that made `object`, asked from the library that contains its vtable; 0 if that
// library does not say.
int major_version_behind(const void* object) {
  Dl_info where;
  if (dladdr(*static_cast<void* const*>(object), &where) == 0) return 0;
  void* library = dlopen(where.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return 0;
  const auto version = reinterpret_cast<int32_t (*)()>(dlsym(library, "getInferLibMajorVersion"));
  const int major = version == nullptr ? 0 : version();
  dlclose(library);
  return major;
}

nvinfer1::ILogger* logger() {
  nvinfer1::ILoggerFinder* finder = known_finder;
  return finder == nullptr ? nullptr : finder->findLogger();
}

}  // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept {
  // From TensorRT 11 on, findLogger is at another index of the vtable: only the version of the headers can be called.
  const bool can_be_called = finder != nullptr && major_version_behind(finder) == NV_TENSORRT_MAJOR;
  known_finder = can_be_called ? finder : nullptr;
}

void log_error(const std::string& sentence) noexcept {
  const Status told = guard([&]() -> Status {
    nvinfer1::ILogger* found = logger();
    if (found == nullptr) return Status::error("no logger");
    found->log(nvinfer1::ILogger::Severity::kERROR, sentence.c_str());
    return {};
  });
  if (!told.ok()) std::fprintf(stderr, "[vimdeploy] %s\n", sentence.c_str());
}

}  // namespace vimdeploy::tensorrt
