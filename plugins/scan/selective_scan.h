// BidirectionalSelectiveScan: the selective scan of K directions, summed and gated by z.

#pragma once

#include <vector>

#include "scan/instruction_sets.h"
#include "scan/parallel_for.h"
#include "scan/plan.h"
#include "scan/problem.h"

namespace vimdeploy {

// `scratch` holds plan.scratch_bytes; the problem has passed check().
using SelectiveScanFunction = void(const SelectiveScanProblem& problem, const SelectiveScanPlan& plan,
                                   const SelectiveScanTensors& tensors, void* scratch, ParallelFor parallel_for);

// The kernels compiled for instruction sets of this machine, best first.
const std::vector<Kernel<SelectiveScanFunction>>& selective_scan_kernels();

// The plain loop: what the kernels are held against.
void selective_scan_reference(const SelectiveScanProblem& problem, const SelectiveScanTensors& tensors);

}  // namespace vimdeploy
