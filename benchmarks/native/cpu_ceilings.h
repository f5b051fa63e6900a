// Bounds for the CPU's scan: its arithmetic in registers only, and its loop over the states only.

#pragma once

#include <cstdint>
#include <vector>

#include "scan/cpu/instruction_sets.h"
#include "scan/cpu/plan.h"
#include "scan/problem.h"

namespace vimdeploy::benchmarks {

// Advances a group of states `steps` times, in registers only: for each an exp2, two products and two multiply-adds.
// Returns a number that depends on all of them, and sets `states` to the number of states.
using StateCeilingFunction = float(int64_t steps, int64_t& states);

const std::vector<Kernel<StateCeilingFunction>>& state_ceilings();

// The kernel's own loop over the states, for every block, direction and channel of a float32 problem of one sequence,
// with the same loads of B, C and A; step sizes are read from the scratch, and y stays there.
using BareScanFunction = void(const SelectiveScanProblem& problem, const SelectiveScanPlan& plan,
                              const SelectiveScanTensors& tensors, void* scratch);

const std::vector<Kernel<BareScanFunction>>& bare_scans();

}  // namespace vimdeploy::benchmarks
