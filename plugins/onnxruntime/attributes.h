// Reads the attributes of a node, as visit_attributes() of an operator names them.

#pragma once

#include <onnxruntime_cxx_api.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace vimdeploy::onnxruntime {

// Every attribute must be there. ONNX Runtime fills in no defaults for custom operators.
class AttributeReader {
 public:
  AttributeReader(const char* op, const OrtKernelInfo* info) : op_(op), info_(info) {}

  void operator()(const char* name, std::vector<int64_t>& numbers) const {
    read(name, [&] { numbers = info_.GetAttributes<int64_t>(name); });
  }

  template <typename Number>
  void operator()(const char* name, Number& number) const {
    read(name, [&] { number = info_.GetAttribute<Number>(name); });
  }

 private:
  template <typename Read>
  void read(const char* name, Read read) const {
    try {
      read();
    } catch (const Ort::Exception&) {
      throw std::invalid_argument(std::string(op_) + ": attribute " + name + " is missing or of another type");
    }
  }

  const char* op_;
  Ort::ConstKernelInfo info_;
};

}  // namespace vimdeploy::onnxruntime
