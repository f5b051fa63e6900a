// What the scan's arithmetic takes by itself: the ceiling of any kernel that makes its decays by exp2 of math-inl.h.

#pragma once

#include <cstdint>
#include <vector>

#include "scan/instruction_sets.h"

namespace vimdeploy::testing {

// Advances a vector of states `steps` times, in registers alone: of each an exp2, two products and two multiply-adds.
// Returns a number that depends on all of them, and sets `states` to how many the vector holds.
using StateCeilingFunction = float(int64_t steps, int64_t& states);

const std::vector<Kernel<StateCeilingFunction>>& state_ceilings();

}  // namespace vimdeploy::testing
