// From the shapes of an operator's inputs to its problem: every input is checked against the others.

#pragma once

#include <vector>

#include "scan/problem.h"

namespace vimdeploy {

using Shape = std::vector<int64_t>;

// `inputs` is in the operator's order. The problem's type, reverse and scale are the caller's and are kept.
Status sizes_from_shapes(const std::vector<Shape>& inputs, Conv1dProblem& problem);
Status sizes_from_shapes(const std::vector<Shape>& inputs, SelectiveScanProblem& problem);

Shape output_shape(const Conv1dProblem& problem);
Shape output_shape(const SelectiveScanProblem& problem);

}  // namespace vimdeploy
