#include "onnxruntime/cuda_device_scope.h"

#include <cuda_runtime_api.h>

#include <string>

namespace vimdeploy::onnxruntime {

CudaDeviceScope::CudaDeviceScope(int device) {
  cudaError_t error = cudaGetDevice(&before_);
  if (error == cudaSuccess && before_ != device) {
    error = cudaSetDevice(device);
    is_changed_ = error == cudaSuccess;
  }
  if (error != cudaSuccess) {
    status_ = Status::error("vimdeploy: CUDA device " + std::to_string(device) +
                            " cannot be used: " + cudaGetErrorString(error));
  }
}

CudaDeviceScope::~CudaDeviceScope() {
  if (is_changed_) cudaSetDevice(before_);
}

}  // namespace vimdeploy::onnxruntime
