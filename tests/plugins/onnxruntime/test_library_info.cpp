// The library as a host without ONNX Runtime sees it.

#include <gtest/gtest.h>

#include <string>

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace {

void* symbol_of_library(const char* name) {
#ifdef _WIN32
  return reinterpret_cast<void*>(GetProcAddress(LoadLibraryA(VIMDEPLOY_LIBRARY), name));
#else
  void* library = dlopen(VIMDEPLOY_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  return library == nullptr ? nullptr : dlsym(library, name);
#endif
}

TEST(Library, LoadsWithoutOnnxRuntimeAndHasItsEntryPoint) {
  EXPECT_NE(symbol_of_library("RegisterCustomOps"), nullptr);
}

TEST(Library, SaysWhatItIs) {
  const auto info = reinterpret_cast<const char* (*)()>(symbol_of_library("VimdeployLibraryInfo"));
  ASSERT_NE(info, nullptr);
  const std::string json = info();
  for (const char* part : {"\"library_version\": \"", "\"operators_version\": 1",
                           "\"operators\": [\"BidirectionalConv1d\", \"BidirectionalSelectiveScan\"]",
                           "\"types\": [\"float32\", \"float16\", \"bfloat16\"]", "\"instruction_set\": \"",
                           "\"instruction_sets\": [\"", "\"cuda_architectures\": [", "\"cuda_version\": \""}) {
    EXPECT_NE(json.find(part), std::string::npos) << part << " is not in " << json;
  }
  EXPECT_EQ(json.front(), '{');
  EXPECT_EQ(json.back(), '}');
}

}  // namespace
