// The operators of plugins/scan for custom_op.h: each with a function that reads its attributes from a node.

#pragma once

#include <onnxruntime_cxx_api.h>

#include <stdexcept>
#include <string>

#include "scan/operators.h"

namespace vimdeploy::onnxruntime {

// Reads an attribute that the node must have, by `read(attribute)`.
template <typename Read>
auto required(const char* op, const char* attribute, Read read) {
  try {
    return read(attribute);
  } catch (const Ort::Exception&) {
    throw std::invalid_argument(std::string(op) + ": attribute " + attribute + " is missing or of another type");
  }
}

inline std::vector<int64_t> reverse_of(const char* op, const Ort::ConstKernelInfo& info) {
  return required(op, "reverse", [&](const char* name) { return info.GetAttributes<int64_t>(name); });
}

struct Conv1d : Conv1dOperator {
  static void read_attributes(const Ort::ConstKernelInfo& info, Conv1dProblem& problem) {
    problem.reverse = reverse_of(kName, info);
  }
};

struct SelectiveScan : SelectiveScanOperator {
  static void read_attributes(const Ort::ConstKernelInfo& info, SelectiveScanProblem& problem) {
    problem.reverse = reverse_of(kName, info);
    problem.scale = required(kName, "scale", [&](const char* name) { return info.GetAttribute<float>(name); });
  }
};

}  // namespace vimdeploy::onnxruntime
