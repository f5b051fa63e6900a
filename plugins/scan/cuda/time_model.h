// The time that the CUDA kernels are expected to take for a plan, and the blocks that a plan makes, on which the time
// depends. No GPU has confirmed the model.

#pragma once

#include <cstdint>

#include "scan/cuda/plan.h"

namespace vimdeploy::cuda {

// Thread groups of a block of the output kernel.
int64_t groups_of(const SelectiveScanProblem& problem);

// Blocks of the output kernel for one chunk of every sequence.
int64_t blocks_per_chunk(const SelectiveScanProblem& problem);

// Blocks of `groups` thread groups that the registers of a multiprocessor hold.
int64_t blocks_in_registers(const SelectiveScanProblem& problem, int64_t groups, int64_t channels_per_thread);

// Resident blocks of the output kernel on a multiprocessor; 0 if one needs more shared memory than a block may have.
int64_t resident_blocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                        const CudaFacts& device);

// Clocks of the multiprocessors from the first launch to the end of the last block.
int64_t expected_clocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                        const CudaFacts& device);

}  // namespace vimdeploy::cuda
