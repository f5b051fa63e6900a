// An engine of `vimdeploy build`, loaded and run with TensorRT's C++ API.

#pragma once

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/prepare.h"

namespace classify {

inline void check(cudaError_t error, const char* what) {
  check(error == cudaSuccess, std::string(what) + " failed: " + cudaGetErrorString(error));
}

// TensorRT and our plugin tell here what went wrong.
class Logger final : public nvinfer1::ILogger {
  void log(Severity severity, const char* line) noexcept override {
    if (severity <= Severity::kWARNING) std::fprintf(stderr, "TensorRT: %s\n", line);
  }
};

struct FreeDevice {
  void operator()(void* data) const { cudaFree(data); }
};
using DeviceMemory = std::unique_ptr<void, FreeDevice>;

// Zeros.
inline DeviceMemory device_memory(size_t bytes) {
  void* data = nullptr;
  check(cudaMalloc(&data, bytes), "cudaMalloc");
  DeviceMemory memory(data);
  check(cudaMemset(data, 0, bytes), "cudaMemset");
  return memory;
}

struct DestroyStream {
  void operator()(CUstream_st* stream) const { cudaStreamDestroy(stream); }
};
using Stream = std::unique_ptr<CUstream_st, DestroyStream>;

class Engine {
 public:
  // plugin_path is empty for an engine without plugins.
  Engine(const std::vector<char>& plan, const std::string& plugin_path, const Model& model) : model_(model) {
    int devices = 0;  // asked first: without a GPU, TensorRT may give a runtime that crashes
    check(cudaGetDeviceCount(&devices), "looking for a GPU");
    runtime_.reset(nvinfer1::createInferRuntime(logger_));
    check(runtime_ != nullptr, "TensorRT does not start");
    // The plugins have to be known before the engine is read, which names them.
    check(plugin_path.empty() || runtime_->getPluginRegistry().loadLibrary(plugin_path.c_str()) != nullptr,
          plugin_path + " is no plugin library that loads here");
    engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    check(engine_ != nullptr, "it is not an engine of this TensorRT version and GPU; build it here");
    context_.reset(engine_->createExecutionContext());
    check(context_ != nullptr, "there is no memory for an execution context");
    check_tensor(model.input, nvinfer1::TensorIOMode::kINPUT, model.takes_bytes ? DataType::kUINT8 : DataType::kFLOAT);
    check_tensor(model.output, nvinfer1::TensorIOMode::kOUTPUT, DataType::kFLOAT);
    cudaStream_t stream = nullptr;
    check(cudaStreamCreate(&stream), "cudaStreamCreate");
    stream_.reset(stream);
  }

  // The logits of one picture. If the engine wants more pictures at once, the others are zeros.
  std::vector<float> run(const Tensor& picture) const {
    const char *input_name = model_.input.c_str(), *output_name = model_.output.c_str();
    const nvinfer1::Dims dims = select_profile(picture);
    check(context_->setInputShape(input_name, dims), "the engine refuses the shape of its input");
    const nvinfer1::Dims shape = context_->getTensorShape(output_name);

    const DeviceMemory input = device_memory(count(dims) * (model_.takes_bytes ? sizeof(uint8_t) : sizeof(float)));
    const DeviceMemory output = device_memory(count(shape) * sizeof(float));
    check(context_->setTensorAddress(input_name, input.get()) && context_->setTensorAddress(output_name, output.get()),
          "the engine refuses the addresses of input and output");
    std::visit(
        [&](const auto& values) {
          const size_t bytes = values.size() * sizeof(values[0]);
          check(cudaMemcpyAsync(input.get(), values.data(), bytes, cudaMemcpyHostToDevice, stream_.get()), "a copy");
        },
        picture.values);
    check(context_->enqueueV3(stream_.get()), "the engine did not run; TensorRT's lines above say why");
    std::vector<float> logits(static_cast<size_t>(shape.d[1]));  // of the first picture
    const size_t bytes = logits.size() * sizeof(float);
    check(cudaMemcpyAsync(logits.data(), output.get(), bytes, cudaMemcpyDeviceToHost, stream_.get()), "a copy");
    check(cudaStreamSynchronize(stream_.get()), "running the engine");
    return logits;
  }

 private:
  using DataType = nvinfer1::DataType;

  static size_t count(const nvinfer1::Dims& dims) {
    size_t product = 1;
    for (int i = 0; i < dims.nbDims; ++i) product *= static_cast<size_t>(dims.d[i]);
    return product;
  }

  // Switches to the profile that takes a picture of this size with the fewest others, and returns the input's shape.
  nvinfer1::Dims select_profile(const Tensor& picture) const {
    using Bound = nvinfer1::OptProfileSelector;
    nvinfer1::Dims dims{};
    dims.nbDims = static_cast<int32_t>(picture.shape.size());
    std::copy(picture.shape.begin(), picture.shape.end(), dims.d);
    int32_t chosen = -1;
    for (int32_t profile = 0; profile < engine_->getNbOptimizationProfiles(); ++profile) {
      const nvinfer1::Dims least = engine_->getProfileShape(model_.input.c_str(), profile, Bound::kMIN);
      const nvinfer1::Dims most = engine_->getProfileShape(model_.input.c_str(), profile, Bound::kMAX);
      bool fits = least.nbDims == dims.nbDims && (chosen < 0 || least.d[0] < dims.d[0]);
      for (int i = 1; i < dims.nbDims; ++i) fits = fits && least.d[i] <= dims.d[i] && dims.d[i] <= most.d[i];
      if (!fits) continue;
      chosen = profile;
      dims.d[0] = least.d[0];
    }
    check(chosen >= 0, "the engine takes no pictures of this size");
    check(context_->setOptimizationProfileAsync(chosen, stream_.get()), "the engine refuses its own profile");
    return dims;
  }

  void check_tensor(const std::string& name, nvinfer1::TensorIOMode mode, DataType type) const {
    check(engine_->getTensorIOMode(name.c_str()) == mode && engine_->getTensorDataType(name.c_str()) == type,
          "its " + name + " is not what the file beside it says");
  }

  Model model_;
  Logger logger_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  Stream stream_;
};

}  // namespace classify
