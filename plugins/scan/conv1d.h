// BidirectionalConv1d: u = silu(bias + causal depthwise convolution of x), for K directions.

#pragma once

#include <vector>

#include "scan/instruction_sets.h"
#include "scan/parallel_for.h"
#include "scan/plan.h"
#include "scan/problem.h"

namespace vimdeploy {

// `scratch` holds plan.scratch_bytes; the problem has passed check().
using Conv1dFunction = void(const Conv1dProblem& problem, const Conv1dPlan& plan, const Conv1dTensors& tensors,
                            void* scratch, ParallelFor parallel_for);

// The kernels compiled for instruction sets of this machine, best first.
const std::vector<Kernel<Conv1dFunction>>& conv1d_kernels();

// The plain loop: what the kernels are held against.
void conv1d_reference(const Conv1dProblem& problem, const Conv1dTensors& tensors);

}  // namespace vimdeploy
