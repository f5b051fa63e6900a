// An engine of `vimdeploy build`, loaded and run with TensorRT's C++ API. Every failure is a std::runtime_error.

#pragma once

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

inline void check(bool is_good, const std::string& sentence) {
  if (!is_good) throw std::runtime_error(sentence);
}

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
  void operator()(float* data) const { cudaFree(data); }
};
using DeviceFloats = std::unique_ptr<float, FreeDevice>;

inline DeviceFloats device_floats(size_t count) {
  float* data = nullptr;
  check(cudaMalloc(reinterpret_cast<void**>(&data), count * sizeof(float)), "cudaMalloc");
  return DeviceFloats(data);
}

struct DestroyStream {
  void operator()(CUstream_st* stream) const { cudaStreamDestroy(stream); }
};
using Stream = std::unique_ptr<CUstream_st, DestroyStream>;

class Engine {
 public:
  Engine(const std::string& engine_path, const std::string& plugin_path) {
    std::ifstream file(engine_path, std::ios::binary);
    check(file.good(), engine_path + " cannot be opened");
    const std::vector<char> plan(std::istreambuf_iterator<char>(file), {});
    runtime_.reset(nvinfer1::createInferRuntime(logger_));
    check(runtime_ != nullptr, "TensorRT finds no usable GPU");
    // The plugins have to be known before the engine is read, which names them.
    check(runtime_->getPluginRegistry().loadLibrary(plugin_path.c_str()) != nullptr,
          plugin_path + " is no plugin library that loads here");
    engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    check(engine_ != nullptr, engine_path + " is not an engine of this TensorRT version and GPU; build it here");
    context_.reset(engine_->createExecutionContext());
    check(context_ != nullptr, "there is no memory for an execution context");
    read_sizes();
    cudaStream_t stream = nullptr;
    check(cudaStreamCreate(&stream), "cudaStreamCreate");
    stream_.reset(stream);
  }

  int width() const { return static_cast<int>(images_.d[3]); }
  int height() const { return static_cast<int>(images_.d[2]); }

  // The logits of one picture, (3, height, width). Where the engine wants more pictures at once, the others are black.
  std::vector<float> run(const std::vector<float>& picture) const {
    std::vector<float> images(static_cast<size_t>(count(images_)));
    std::copy(picture.begin(), picture.end(), images.begin());
    const DeviceFloats input = device_floats(images.size());
    check(context_->setInputShape(kInput, images_), "the engine refuses the shape of the input");
    const nvinfer1::Dims shape = context_->getTensorShape(kOutput);
    std::vector<float> logits(static_cast<size_t>(count(shape)));
    const DeviceFloats output = device_floats(logits.size());
    check(context_->setTensorAddress(kInput, input.get()) && context_->setTensorAddress(kOutput, output.get()),
          "the engine refuses the addresses of input and output");

    const auto bytes = [](const std::vector<float>& values) { return values.size() * sizeof(float); };
    check(cudaMemcpyAsync(input.get(), images.data(), bytes(images), cudaMemcpyHostToDevice, stream_.get()), "a copy");
    check(context_->enqueueV3(stream_.get()), "the engine did not run; TensorRT's lines above say why");
    check(cudaMemcpyAsync(logits.data(), output.get(), bytes(logits), cudaMemcpyDeviceToHost, stream_.get()), "a copy");
    check(cudaStreamSynchronize(stream_.get()), "running the engine");
    logits.resize(static_cast<size_t>(shape.d[1]));  // of the first picture
    return logits;
  }

 private:
  static constexpr const char* kInput = "images";   // (B, 3, H, W) float32
  static constexpr const char* kOutput = "logits";  // (B, classes) float32

  static int64_t count(const nvinfer1::Dims& dims) {
    int64_t product = 1;
    for (int i = 0; i < dims.nbDims; ++i) product *= dims.d[i];
    return product;
  }

  // The smallest batch that the engine takes, at the picture size that it is fastest at.
  void read_sizes() {
    for (const auto& [name, mode] :
         {std::pair{kInput, nvinfer1::TensorIOMode::kINPUT}, std::pair{kOutput, nvinfer1::TensorIOMode::kOUTPUT}}) {
      check(engine_->getTensorIOMode(name) == mode,
            std::string("the engine has no ") + name + ": not made by vimdeploy");
      check(engine_->getTensorDataType(name) == nvinfer1::DataType::kFLOAT, std::string(name) + " is not float32");
    }
    images_ = engine_->getProfileShape(kInput, 0, nvinfer1::OptProfileSelector::kOPT);
    check(images_.nbDims == 4 && images_.d[1] == 3, "the engine does not take RGB pictures (B, 3, H, W)");
    images_.d[0] = engine_->getProfileShape(kInput, 0, nvinfer1::OptProfileSelector::kMIN).d[0];
  }

  Logger logger_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  nvinfer1::Dims images_{};
  Stream stream_;
};
