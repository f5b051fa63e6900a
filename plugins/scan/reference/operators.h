// The operators as plain loops, one number at a time: what the kernels of every device are tested against.

#pragma once

#include "scan/problem.h"

namespace vimdeploy {

void conv1d_reference(const Conv1dProblem& problem, const Conv1dTensors& tensors);

void selective_scan_reference(const SelectiveScanProblem& problem, const SelectiveScanTensors& tensors);

}  // namespace vimdeploy
