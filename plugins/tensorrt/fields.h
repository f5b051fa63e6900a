// The named values by which TensorRT makes a plugin, and which an engine keeps of it. An operator names each of its
// attributes once, for whoever has an overload for its type: the three classes here.

#pragma once

#include <NvInferRuntime.h>

#include <string>
#include <vector>

#include "scan/cuda/plan.h"
#include "support/status.h"

namespace vimdeploy::tensorrt {

// Every field that is read must be there; others are passed over, as TensorRT adds its own.
class FieldReader {
 public:
  FieldReader(const char* op, const nvinfer1::PluginFieldCollection* fields) : op_(op), fields_(fields) {}

  void operator()(const char* name, std::vector<int64_t>& numbers);
  void operator()(const char* name, float& number);
  void operator()(const char* name, CudaFacts& device);

  // The first thing that was wrong.
  const Status& status() const { return status_; }

 private:
  const nvinfer1::PluginField* find(const char* name, nvinfer1::PluginFieldType type, const char* wanted);
  void refuse(const char* name, const std::string& found, const char* wanted);

  const char* op_;
  const nvinfer1::PluginFieldCollection* fields_;
  Status status_;
};

// Owns what its fields point to.
class FieldList {
 public:
  FieldList() = default;
  FieldList(const FieldList&) = delete;
  FieldList& operator=(const FieldList&) = delete;

  void operator()(const char* name, const std::vector<int64_t>& numbers);
  void operator()(const char* name, const float& number);
  void operator()(const char* name, const CudaFacts& device);

  const nvinfer1::PluginFieldCollection* collection() const { return &collection_; }

 private:
  void add(const char* name, nvinfer1::PluginFieldType type, size_t count, const void* data, size_t bytes);

  std::vector<std::vector<unsigned char>> values_;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_;
};

// The values in words, to tell one plugin from another.
class FieldText {
 public:
  void operator()(const char* name, const std::vector<int64_t>& numbers);
  void operator()(const char* name, const float& number);

  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace vimdeploy::tensorrt
