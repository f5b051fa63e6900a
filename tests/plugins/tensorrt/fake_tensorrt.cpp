// A library that hands out a logger as TensorRT does, and reports the version that it was told.

#include <NvInferRuntime.h>

#include <string>

#include "support/export.h"

namespace {

int32_t version = 0;
std::string logged, taken;

class Logger final : public nvinfer1::ILogger {
  void log(Severity severity, const char* sentence) noexcept override {
    if (severity == Severity::kERROR) logged += sentence;
  }
} logger;

class Finder final : public nvinfer1::ILoggerFinder {
 public:
  nvinfer1::ILogger* findLogger() override { return found; }
  nvinfer1::ILogger* found = nullptr;
} the_finder;

}  // namespace

VIMDEPLOY_EXPORT int32_t getInferLibMajorVersion() noexcept { return version; }

VIMDEPLOY_EXPORT void set_version(int32_t major) { version = major; }
VIMDEPLOY_EXPORT nvinfer1::ILoggerFinder* finder() {
  the_finder.found = &logger;
  return &the_finder;
}
VIMDEPLOY_EXPORT void lose_logger() { the_finder.found = nullptr; }
VIMDEPLOY_EXPORT const char* take_logged() {
  taken = logged;
  logged.clear();
  return taken.c_str();
}
