// What sets one operator apart from another for custom_op.h: names, attributes, inputs, kernels.

#pragma once

#include <stdexcept>
#include <string>

#include "onnxruntime/host.h"
#include "scan/conv1d.h"
#include "scan/selective_scan.h"

namespace vimdeploy::onnxruntime {

// An attribute the node must have; `read` gets it from the node.
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

struct Conv1d {
  using Problem = Conv1dProblem;
  static constexpr const char* kName = kConv1dName;
  static constexpr size_t kInputs = 3;

  static bool is_float32(size_t) { return false; }

  static std::vector<InputAxis> output() { return {{1, 0}, {0, 0}, {0, 1}, {1, 1}}; }  // K of weight, B and L of xz, E

  static void read_attributes(const Ort::ConstKernelInfo& info, Conv1dProblem& problem) {
    problem.reverse = reverse_of(kName, info);
  }

  static Conv1dTensors tensors(const std::vector<const void*>& in, void* out) { return {in[0], in[1], in[2], out}; }

  static const auto& kernels() { return conv1d_kernels(); }
};

struct SelectiveScan {
  using Problem = SelectiveScanProblem;
  static constexpr const char* kName = kSelectiveScanName;
  static constexpr size_t kInputs = 7;

  static bool is_float32(size_t input) { return input >= 4; }  // dt_bias, A and D, whatever T is

  static std::vector<InputAxis> output() { return {{1, 0}, {1, 1}, {5, 1}}; }  // B and L of xz, E of A

  static void read_attributes(const Ort::ConstKernelInfo& info, SelectiveScanProblem& problem) {
    problem.reverse = reverse_of(kName, info);
    problem.scale = required(kName, "scale", [&](const char* name) { return info.GetAttribute<float>(name); });
  }

  static SelectiveScanTensors tensors(const std::vector<const void*>& in, void* out) {
    const auto floats = [&](size_t i) { return static_cast<const float*>(in[i]); };
    return {in[0], in[1], in[2], in[3], floats(4), floats(5), floats(6), out};
  }

  static const auto& kernels() { return selective_scan_kernels(); }
};

}  // namespace vimdeploy::onnxruntime
