// The C functions on CUDA devices, as far as they go without one; tools/gpu_kit compares their results.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "c_api/vimdeploy.h"
#include "onnxruntime/library_under_test.h"

namespace vimdeploy::testing {
namespace {

class CudaFunctions : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string info = entry_point<const char*()>("VimdeployLibraryInfo")();
    is_built_ = info.find("\"cuda_architectures\": []") == std::string::npos;
    EXPECT_EQ(scan_ != nullptr, is_built_);
    EXPECT_EQ(conv1d_ != nullptr, is_built_);
    if (!is_built_) GTEST_SKIP() << "built without a CUDA compiler";
  }

  std::string scan(std::vector<int64_t> sizes, int type = 0, int softplus = 1, float* last_state = nullptr) const {
    return said(scan_(type, sizes.empty() ? nullptr : sizes.data(), reverse_, softplus, inputs_, y_, last_state,
                      kNoDevice, nullptr));
  }
  std::string conv1d(std::vector<int64_t> sizes, int silu = 1) const {
    return said(conv1d_(0, sizes.data(), reverse_, silu, inputs_, y_, kNoDevice, nullptr));
  }

  static constexpr int kNoDevice = 1000;

 private:
  static std::string said(const char* sentence) { return sentence == nullptr ? "" : sentence; }

  decltype(&VimdeploySelectiveScanCuda) scan_ =
      entry_point<std::remove_pointer_t<decltype(&VimdeploySelectiveScanCuda)>>("VimdeploySelectiveScanCuda");
  decltype(&VimdeployCausalConv1dCuda) conv1d_ =
      entry_point<std::remove_pointer_t<decltype(&VimdeployCausalConv1dCuda)>>("VimdeployCausalConv1dCuda");
  bool is_built_ = false;
  static inline float nowhere_[1];  // tensors that are not read
  const int64_t reverse_[2] = {0, 1};
  float* const y_ = nowhere_;
  const void* inputs_[8] = {y_, y_, y_, y_, y_, y_, y_, y_};
};

TEST_F(CudaFunctions, SayWhatIsWrong) {
  EXPECT_EQ(scan({}), "SelectiveScan: sizes, reverse or inputs is NULL");
  EXPECT_EQ(scan({1, 2, 5, 6, 4, 0}, 7), "SelectiveScan: type is 7, wanted 0 (float32), 1 (float16) or 2 (bfloat16)");
  EXPECT_EQ(scan({1, 2, 5, 6, 0, 3}), "LowRankSelectiveScan: N (states) is 0, wanted at least 1");
  EXPECT_EQ(scan({1, 2, 5, 6, 4, 0}, 0, 2), "SelectiveScan: attribute delta_softplus is 2, wanted 0 or 1");
  EXPECT_EQ(conv1d({1, 5, 5, 2, 6, 4}), "CausalConv1d: X (channels of x) is 5, wanted at least 6");
  EXPECT_EQ(conv1d({1, 5, 6, 2, 6, 4}, 2), "CausalConv1d: attribute silu is 2, wanted 0 or 1");
}

TEST_F(CudaFunctions, GiveNoLastState) {
  float state[1];
  EXPECT_EQ(scan({1, 2, 5, 6, 4, 0}, 0, 1, state), "SelectiveScan: last_state must be NULL on a CUDA device");
}

TEST_F(CudaFunctions, SayIfThereIsNoSuchDevice) {
  for (const std::string& sentence : {scan({1, 2, 5, 6, 4, 0}), scan({1, 2, 5, 6, 4, 3}), conv1d({1, 5, 6, 2, 6, 4})}) {
    EXPECT_NE(sentence.find("making CUDA device 1000 the current one: CUDA says"), std::string::npos) << sentence;
  }
}

}  // namespace
}  // namespace vimdeploy::testing
