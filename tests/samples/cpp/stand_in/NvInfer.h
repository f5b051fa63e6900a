// A stand-in for TensorRT: of its C++ API what samples/cpp/tensorrt calls, which compiles against the real headers too.
// An engine is an ONNX file, and ONNX Runtime computes it, with the operators of the library that was loaded before.

#pragma once

#include <cuda_runtime_api.h>
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace nvinfer1 {

enum class DataType { kFLOAT, kUINT8, kOTHER };
enum class TensorIOMode { kNONE, kINPUT, kOUTPUT };
enum class OptProfileSelector { kMIN, kOPT, kMAX };

struct Dims {
  int32_t nbDims = 0;
  int64_t d[8] = {};
};

class ILogger {
 public:
  enum class Severity { kINTERNAL_ERROR, kERROR, kWARNING, kINFO };
  virtual void log(Severity severity, const char* line) noexcept = 0;
  virtual ~ILogger() = default;
};

class ICudaEngine;

class IExecutionContext {
 public:
  explicit IExecutionContext(ICudaEngine* engine) : engine_(engine) {}

  bool setOptimizationProfileAsync(int32_t profile, cudaStream_t) {
    profile_ = profile;
    return true;
  }
  bool setInputShape(const char* name, const Dims& dims);
  bool setTensorAddress(const char* name, void* data) {
    addresses_[name] = data;
    return true;
  }
  Dims getTensorShape(const char* name) const;
  bool enqueueV3(cudaStream_t stream);

 private:
  ICudaEngine* engine_;
  int32_t profile_ = 0;
  Dims input_;
  std::map<std::string, void*> addresses_;
};

class ICudaEngine {
 public:
  ICudaEngine(Ort::Env& environment, const void* plan, size_t bytes, const Ort::SessionOptions& options)
      : session(environment, plan, bytes, options),
        input(session.GetInputNameAllocated(0, allocator_).get()),
        output(session.GetOutputNameAllocated(0, allocator_).get()) {}

  IExecutionContext* createExecutionContext() { return new IExecutionContext(this); }

  TensorIOMode getTensorIOMode(const char* name) const {
    return name == input ? TensorIOMode::kINPUT : name == output ? TensorIOMode::kOUTPUT : TensorIOMode::kNONE;
  }
  DataType getTensorDataType(const char* name) const {
    const auto type = type_of(name).GetTensorTypeAndShapeInfo().GetElementType();
    if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) return DataType::kFLOAT;
    return type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 ? DataType::kUINT8 : DataType::kOTHER;
  }

  // For 4 to 8 pictures, and for 2; of the model's size, or of any up to 512.
  int32_t getNbOptimizationProfiles() const { return 2; }
  Dims getProfileShape(const char* name, int32_t profile, OptProfileSelector which) const {
    const bool is_most = which == OptProfileSelector::kMAX;
    Dims dims = shape_of(name);
    std::replace(dims.d, dims.d + dims.nbDims, int64_t{-1}, int64_t{is_most ? 512 : 1});
    dims.d[0] = profile == 1 ? 2 : is_most ? 8 : 4;
    return dims;
  }

  Dims shape_of(const char* name) const {
    const std::vector<int64_t> shape = type_of(name).GetTensorTypeAndShapeInfo().GetShape();
    Dims dims{static_cast<int32_t>(shape.size()), {}};
    std::copy(shape.begin(), shape.end(), dims.d);
    return dims;
  }

  Ort::Session session;

 private:
  Ort::TypeInfo type_of(const char* name) const {
    return name == input ? session.GetInputTypeInfo(0) : session.GetOutputTypeInfo(0);
  }

  Ort::AllocatorWithDefaultOptions allocator_;

 public:
  std::string input, output;
};

inline bool IExecutionContext::setInputShape(const char* name, const Dims& dims) {
  const Dims least = engine_->getProfileShape(name, profile_, OptProfileSelector::kMIN);
  const Dims most = engine_->getProfileShape(name, profile_, OptProfileSelector::kMAX);
  for (int i = 0; i < dims.nbDims; ++i) {
    if (dims.d[i] < least.d[i] || dims.d[i] > most.d[i]) return false;
  }
  input_ = dims;
  return true;
}

inline Dims IExecutionContext::getTensorShape(const char* name) const {
  Dims dims = engine_->shape_of(name);
  dims.d[0] = input_.d[0];
  return dims;
}

inline bool IExecutionContext::enqueueV3(cudaStream_t stream) {
  const Dims in = input_, out = getTensorShape(engine_->output.c_str());
  stream->queued.emplace_back(
      [=, engine = engine_, from = addresses_.at(engine_->input), to = addresses_.at(engine_->output)] {
        const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        const bool is_bytes = engine->getTensorDataType(engine->input.c_str()) == DataType::kUINT8;
        const auto value = [&](void* data, const Dims& dims, bool bytes) {
          size_t size = bytes ? sizeof(uint8_t) : sizeof(float);
          for (int i = 0; i < dims.nbDims; ++i) size *= static_cast<size_t>(dims.d[i]);
          return Ort::Value::CreateTensor(
              memory, data, size, dims.d, static_cast<size_t>(dims.nbDims),
              bytes ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT);
        };
        const Ort::Value images = value(from, in, is_bytes);
        Ort::Value logits = value(to, out, false);
        const char *input = engine->input.c_str(), *output = engine->output.c_str();
        engine->session.Run(Ort::RunOptions(), &input, &images, 1, &output, &logits, 1);
      });
  return true;
}

class IPluginRegistry {
 public:
  void* loadLibrary(const char* path) {
    options.RegisterCustomOpsLibrary(path);
    return this;
  }

  Ort::SessionOptions options;
};

class IRuntime {
 public:
  IPluginRegistry& getPluginRegistry() { return registry_; }
  ICudaEngine* deserializeCudaEngine(const void* plan, size_t bytes) {
    return new ICudaEngine(environment_, plan, bytes, registry_.options);
  }

 private:
  Ort::Env environment_{ORT_LOGGING_LEVEL_FATAL};
  IPluginRegistry registry_;
};

inline IRuntime* createInferRuntime(ILogger&) { return new IRuntime; }

}  // namespace nvinfer1
