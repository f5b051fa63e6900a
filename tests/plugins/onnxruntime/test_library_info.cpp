// The library's description of itself, read without ONNX Runtime.

#include <gtest/gtest.h>

#include <string>

#include "onnxruntime/library_under_test.h"

namespace vimdeploy::testing {
namespace {

TEST(LibraryInfo, SaysWhatTheLibraryIs) {
  auto* info = entry_point<const char*()>("VimdeployLibraryInfo");
  ASSERT_NE(info, nullptr);
  const std::string json = info();
  for (const char* part :
       {"\"library_version\": \"", "\"operators_version\": 1",
        "\"operators\": [\"BidirectionalConv1d\", \"BidirectionalSelectiveScan\", \"CausalConv1d\", \"SelectiveScan\", "
        "\"LowRankSelectiveScan\"]",
        "\"types\": [\"float32\", \"float16\", \"bfloat16\"]", "\"instruction_set\": \"", "\"instruction_sets\": [\"",
        "\"cuda_architectures\": [", "\"cuda_version\": \""}) {
    EXPECT_NE(json.find(part), std::string::npos) << part << " is not in " << json;
  }
  EXPECT_EQ(json.front(), '{');
  EXPECT_EQ(json.back(), '}');
}

}  // namespace
}  // namespace vimdeploy::testing
