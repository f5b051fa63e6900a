// Plugin fields: the named values that a plugin is created from, and that an engine serializes. visit_attributes() of
// an operator names each attribute once; the three classes here are its visitors. TensorRT's parser makes INT32 of an
// ONNX attribute of whole numbers, of one as of a list, and FLOAT32 of a float.

#pragma once

#include <NvInferRuntime.h>

#include <string>
#include <vector>

#include "scan/cuda/plan.h"
#include "support/status.h"

namespace vimdeploy::tensorrt {

// Reads fields. A field that is read must exist; others are ignored, because TensorRT adds its own.
class FieldReader {
 public:
  FieldReader(const char* op, const nvinfer1::PluginFieldCollection* fields) : op_(op), fields_(fields) {}

  void operator()(const char* name, std::vector<int64_t>& numbers);
  void operator()(const char* name, int64_t& number);
  void operator()(const char* name, float& number);
  void operator()(const char* name, CudaFacts& device);

  // The first error.
  const Status& status() const { return status_; }

 private:
  const nvinfer1::PluginField* find(const char* name, nvinfer1::PluginFieldType type, const char* wanted);
  void read_one(const char* name, nvinfer1::PluginFieldType type, const char* wanted, void* number, size_t bytes);
  void refuse(const char* name, const std::string& found, const char* wanted);

  const char* op_;
  const nvinfer1::PluginFieldCollection* fields_;
  Status status_;
};

// Collects fields, and owns the data that they point to.
class FieldList {
 public:
  FieldList() = default;
  FieldList(const FieldList&) = delete;
  FieldList& operator=(const FieldList&) = delete;

  void operator()(const char* name, const std::vector<int64_t>& numbers);
  void operator()(const char* name, const int64_t& number);
  void operator()(const char* name, const float& number);
  void operator()(const char* name, const CudaFacts& device);

  const nvinfer1::PluginFieldCollection* collection() const { return &collection_; }

 private:
  void add(const char* name, nvinfer1::PluginFieldType type, size_t count, const void* data, size_t bytes);

  std::vector<std::vector<unsigned char>> values_;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_;
};

// Writes the values as text, which identifies a plugin.
class FieldText {
 public:
  void operator()(const char* name, const std::vector<int64_t>& numbers);
  void operator()(const char* name, const int64_t& number);
  void operator()(const char* name, const float& number);

  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace vimdeploy::tensorrt
