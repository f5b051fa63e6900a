// The operators on the CPU, for hosts to call: their kernels, one for each instruction set.

#pragma once

#include <vector>

#include "scan/cpu/instruction_sets.h"
#include "scan/cpu/parallel_for.h"
#include "scan/cpu/plan.h"
#include "scan/problem.h"

namespace vimdeploy {

// Computes the operator as the plan divides it. `scratch` holds plan.scratch_bytes; the problem has passed check().
using Conv1dFunction = void(const Conv1dProblem& problem, const Conv1dPlan& plan, const Conv1dTensors& tensors,
                            void* scratch, ParallelFor parallel_for);
using SelectiveScanFunction = void(const SelectiveScanProblem& problem, const SelectiveScanPlan& plan,
                                   const SelectiveScanTensors& tensors, void* scratch, ParallelFor parallel_for);

// The kernels that are compiled for instruction sets of this machine, the best first.
const std::vector<Kernel<Conv1dFunction>>& conv1d_kernels();
const std::vector<Kernel<SelectiveScanFunction>>& selective_scan_kernels();

}  // namespace vimdeploy
