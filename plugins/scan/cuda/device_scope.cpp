#include "scan/cuda/device_scope.h"

#include <string>

#include "scan/cuda/launch.h"

namespace vimdeploy {

CudaDeviceScope::CudaDeviceScope(int device) {
  cudaError_t error = cudaGetDevice(&before_);
  if (error == cudaSuccess && before_ != device) {
    error = cudaSetDevice(device);
    is_changed_ = error == cudaSuccess;
  }
  status_ = cuda::status_of(error, "making CUDA device " + std::to_string(device) + " the current one");
}

CudaDeviceScope::~CudaDeviceScope() {
  if (is_changed_) cudaSetDevice(before_);
}

}  // namespace vimdeploy
