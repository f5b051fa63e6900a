// What an adapter to a framework needs to know about an operator besides its problem: names, types, sizes of the
// output.

#pragma once

#include <iterator>
#include <vector>

#include "scan/problem.h"

namespace vimdeploy {

// Where one size of an output comes from: an axis of an input.
struct InputAxis {
  size_t input, axis;
};

struct Conv1dOperator {
  using Problem = Conv1dProblem;
  static constexpr const char* kName = kConv1dName;
  static constexpr const char* kInputNames[] = {"xz", "weight", "bias"};
  static constexpr const char* kOutputName = "u";
  static constexpr size_t kInputs = std::size(kInputNames);

  static bool is_float32(size_t) { return false; }

  static std::vector<InputAxis> output() { return {{1, 0}, {0, 0}, {0, 1}, {1, 1}}; }  // K of weight, B and L of xz, E

  static Conv1dTensors tensors(const void* const* in, void* out) { return {in[0], in[1], in[2], out}; }
};

struct SelectiveScanOperator {
  using Problem = SelectiveScanProblem;
  static constexpr const char* kName = kSelectiveScanName;
  static constexpr const char* kInputNames[] = {"u", "xz", "dt_bc", "dt_weight", "dt_bias", "A", "D"};
  static constexpr const char* kOutputName = "y";
  static constexpr size_t kInputs = std::size(kInputNames);

  static bool is_float32(size_t input) { return input >= 4; }  // dt_bias, A and D, for any T

  static std::vector<InputAxis> output() { return {{1, 0}, {1, 1}, {5, 1}}; }  // B and L of xz, E of A

  static SelectiveScanTensors tensors(const void* const* in, void* out) {
    const auto floats = [&](size_t i) { return static_cast<const float*>(in[i]); };
    return {in[0], in[1], in[2], in[3], floats(4), floats(5), floats(6), out};
  }
};

}  // namespace vimdeploy
