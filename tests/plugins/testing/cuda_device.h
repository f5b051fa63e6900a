// A CUDA device for tests: memory that detects writes past its ends, and the operators on it.

#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "scan/cuda/operators.h"
#include "testing/random_tensors.h"

namespace vimdeploy::testing {

inline void expect_success(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA says: ") + cudaGetErrorString(error));
}

inline void expect_success(const Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
}

// Device memory between two guard strips. It is filled with NaN, which shows reads of uninitialized memory and output
// that is not written. compute-sanitizer's initcheck looks for such reads itself and needs the memory as allocated: set
// VIMDEPLOY_LEAVE_MEMORY_UNSET for it.
class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes) : bytes_(bytes) {
    expect_success(cudaMalloc(reinterpret_cast<void**>(&begin_), 2 * kStrip + bytes));
    expect_success(cudaMemset(begin_, kUntouched, kStrip));
    expect_success(cudaMemset(data() + bytes, kUntouched, kStrip));
    if (!std::getenv("VIMDEPLOY_LEAVE_MEMORY_UNSET")) fill_with_nan();
    expect_success(cudaDeviceSynchronize());  // the streams of the tests do not wait for this one
  }
  DeviceMemory(const void* from, size_t bytes) : DeviceMemory(bytes) {
    expect_success(cudaMemcpy(data(), from, bytes, cudaMemcpyHostToDevice));
    expect_success(cudaDeviceSynchronize());
  }
  ~DeviceMemory() { cudaFree(begin_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  unsigned char* data() const { return begin_ + kStrip; }

  void fill_with_nan() const {
    expect_success(cudaMemset(data(), kNaN, bytes_));
    expect_success(cudaDeviceSynchronize());
  }

  void copy_to(Tensor& tensor) const {
    expect_success(cudaMemcpy(tensor.data(), data(), bytes_, cudaMemcpyDeviceToHost));
  }

  bool is_intact() const { return is_untouched(begin_) && is_untouched(data() + bytes_); }

 private:
  static constexpr size_t kStrip = 4096;  // keeps the alignment that cudaMalloc gives
  static constexpr int kUntouched = 0xab, kNaN = 0xff;

  static bool is_untouched(const unsigned char* strip) {
    std::vector<unsigned char> bytes(kStrip);
    expect_success(cudaMemcpy(bytes.data(), strip, kStrip, cudaMemcpyDeviceToHost));
    return std::all_of(bytes.begin(), bytes.end(), [](unsigned char byte) { return byte == kUntouched; });
  }

  unsigned char* begin_ = nullptr;
  size_t bytes_;
};

class Stream {
 public:
  Stream() { expect_success(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  operator cudaStream_t() const { return stream_; }
  void wait() const { expect_success(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

inline std::vector<const void*> pointers_to(const std::vector<std::unique_ptr<DeviceMemory>>& inputs) {
  std::vector<const void*> pointers;
  for (const auto& input : inputs) pointers.push_back(input->data());
  return pointers;
}

inline std::vector<std::unique_ptr<DeviceMemory>> on_device(const std::vector<Bytes>& inputs) {
  std::vector<std::unique_ptr<DeviceMemory>> copies;
  for (const Bytes& input : inputs) copies.push_back(std::make_unique<DeviceMemory>(input.data, input.size));
  return copies;
}

// A convolution whose tensors are on the device.
class Conv1dOnDevice {
 public:
  explicit Conv1dOnDevice(const Conv1dCase& c)
      : problem_(c.problem), in_(on_device(c.inputs())), u_(c.u.bytes.size()) {}

  void launch(cudaStream_t stream) const {
    const auto in = pointers_to(in_);
    expect_success(conv1d_cuda(problem_, {in[0], in[1], in[2], u_.data()}, stream));
  }
  const DeviceMemory& output() const { return u_; }
  bool is_intact() const { return u_.is_intact(); }

 private:
  Conv1dProblem problem_;
  std::vector<std::unique_ptr<DeviceMemory>> in_;
  DeviceMemory u_;
};

// A scan whose tensors and workspace are on the device.
class SelectiveScanOnDevice {
 public:
  SelectiveScanOnDevice(const SelectiveScanCase& c, const SelectiveScanCudaPlan& plan)
      : problem_(c.problem),
        plan_(plan),
        in_(on_device(c.inputs())),
        y_(c.y.bytes.size()),
        workspace_(plan.workspace_bytes) {}

  void launch(cudaStream_t stream) const {
    const auto tensors =
        with_operator(problem_, [&](auto op) { return op.tensors(problem_, pointers_to(in_).data(), y_.data()); });
    expect_success(selective_scan_cuda(problem_, plan_, tensors, workspace_.data(), stream));
  }
  const DeviceMemory& output() const { return y_; }
  bool is_intact() const { return y_.is_intact() && workspace_.is_intact(); }

 private:
  SelectiveScanProblem problem_;
  SelectiveScanCudaPlan plan_;
  std::vector<std::unique_ptr<DeviceMemory>> in_;
  DeviceMemory y_, workspace_;
};

}  // namespace vimdeploy::testing
