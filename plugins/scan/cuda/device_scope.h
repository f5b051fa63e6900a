// Makes a device the calling thread's current CUDA device for a scope: kernels are launched on the current device.

#pragma once

#include "support/status.h"

namespace vimdeploy {

class CudaDeviceScope {
 public:
  explicit CudaDeviceScope(int device);
  ~CudaDeviceScope();
  CudaDeviceScope(const CudaDeviceScope&) = delete;
  CudaDeviceScope& operator=(const CudaDeviceScope&) = delete;

  // Whether `device` is the current one now.
  const Status& status() const { return status_; }

 private:
  Status status_;
  int before_ = 0;
  bool is_changed_ = false;
};

}  // namespace vimdeploy
