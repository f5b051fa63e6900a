// From the shapes of an operator's inputs to its problem: every input is checked against the others.

#pragma once

#include <iterator>
#include <optional>
#include <vector>

#include "scan/operators.h"
#include "scan/problem.h"

namespace vimdeploy {

using Shape = std::vector<int64_t>;

// The sizes that the letters of the contract stand for.
class Sizes {
 public:
  // The first one counts: others are checked against it.
  void set(char letter, int64_t size) {
    if (auto& known = sizes_[letter - 'A']; !known) known = size;
  }
  int64_t get(char letter, int64_t otherwise = 0) const { return sizes_[letter - 'A'].value_or(otherwise); }

 private:
  std::optional<int64_t> sizes_['Z' - 'A' + 1];
};

// The dimensions of a tensor as numbers.
Shape shape_of(const TensorSpec& spec, const Sizes& sizes);

// Where one size of an output comes from: an axis of an input.
struct InputAxis {
  size_t input, axis;
};

// An operator's inputs, in its order.
using Inputs = std::vector<TensorSpec>;

template <typename Operator>
Inputs inputs_of() {
  return {std::begin(Operator::kInputs), std::end(Operator::kInputs)};
}

// The problem's type and attributes are the caller's and are kept.
Status sizes_from_shapes(const Inputs& inputs, const std::vector<Shape>& shapes, Conv1dProblem& problem);
Status sizes_from_shapes(const Inputs& inputs, const std::vector<Shape>& shapes, SelectiveScanProblem& problem);

template <typename Operator>
Status sizes_from_shapes(const std::vector<Shape>& shapes, typename Operator::Problem& problem) {
  return sizes_from_shapes(inputs_of<Operator>(), shapes, problem);
}

Shape output_shape(const Conv1dProblem& problem);
Shape output_shape(const SelectiveScanProblem& problem);

// Every size of an output is a size of some input.
std::vector<InputAxis> axes_of(const TensorSpec& output, const Inputs& inputs);

template <typename Operator>
std::vector<InputAxis> output_axes() {
  return axes_of(Operator::kOutput, inputs_of<Operator>());
}

}  // namespace vimdeploy
