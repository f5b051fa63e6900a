// Errors of launches: the operators without a device, and with nothing to do.

#include "scan/cuda/launch.h"

#include <gtest/gtest.h>

#include "scan/cuda/operators.h"

namespace vimdeploy {
namespace {

TEST(CudaLaunch, AnErrorOfCudaIsASentenceThatNamesTheKernel) {
  EXPECT_TRUE(cuda::status_of(cudaSuccess, "some_kernel").ok());
  const Status status = cuda::status_of(cudaErrorInvalidConfiguration, "some_kernel");
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.message().find("some_kernel: CUDA says cudaErrorInvalidConfiguration"), std::string::npos)
      << status.message();
}

TEST(CudaLaunch, WithoutADeviceTheOperatorsSaySo) {
  CudaFacts device;
  if (read_cuda_facts(device).ok()) GTEST_SKIP() << "there is a device";
  const Conv1dProblem convolution{ElementType::float32, 1, 8, 4, 4, {0, 1}};
  const SelectiveScanProblem scan{ElementType::float32, 1, 8, 4, 16, 1, {0, 1}, 0.5f};
  for (const Status& status : {conv1d_cuda(convolution, {}, nullptr),
                               selective_scan_cuda(scan, cuda_plan_of(scan, device), {}, nullptr, nullptr)}) {
    ASSERT_FALSE(status.ok());
    EXPECT_NE(status.message().find("CUDA says"), std::string::npos) << status.message();
  }
}

TEST(CudaLaunch, AnEmptyTensorIsNoWork) {
  EXPECT_TRUE(conv1d_cuda({ElementType::float32, 0, 8, 4, 4, {0, 1}}, {}, nullptr).ok());
  EXPECT_TRUE(selective_scan_cuda({ElementType::float32, 1, 0, 4, 16, 1, {0, 1}, 0.5f}, {}, {}, nullptr, nullptr).ok());
}

}  // namespace
}  // namespace vimdeploy
