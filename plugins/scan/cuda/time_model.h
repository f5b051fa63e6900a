// The time that the CUDA kernels are expected to take for a plan, and the blocks that a plan makes, on which the time
// depends. What a token takes is counted in the kernels' machine code, rates are NVIDIA's; no GPU has confirmed the
// sum.

#pragma once

#include <cstdint>

#include "scan/cuda/plan.h"

namespace vimdeploy::cuda {

// Thread groups of a block of the output kernel.
int64_t groups_of(const SelectiveScanProblem& problem);

// Blocks of the output kernel for one chunk of every sequence.
int64_t blocks_per_chunk(const SelectiveScanProblem& problem);

// Blocks of `groups` thread groups that the registers of a multiprocessor hold.
int64_t blocks_in_registers(const SelectiveScanProblem& problem, int64_t groups, int64_t channels_per_thread,
                            bool is_cluster = false);

// Resident blocks of the output kernel on a multiprocessor; 0 if one needs more shared memory than a block may have.
int64_t resident_blocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                        const CudaFacts& device);

// What a warp takes for a token.
struct TokenCost {
  double latency = 0;  // clocks, if it is alone
  double clocks = 0;   // of a multiprocessor that has enough warps
};

// The time of one problem on one device, with any plan.
class TimeModel {
 public:
  TimeModel(const SelectiveScanProblem& problem, const CudaFacts& device);

  // Clocks of the multiprocessors from the first launch to the end of the last block; 0 for a plan with nothing to do.
  double clocks(const SelectiveScanCudaPlan& plan) const;

  // The same in microseconds.
  double us(const SelectiveScanCudaPlan& plan) const;

 private:
  // Clocks for blocks of `threads` threads, each of which takes `once` clocks and walks over `tokens` tokens.
  double walk(const TokenCost& cost, double tokens, double once, int64_t blocks, int64_t threads,
              int64_t resident) const;

  // Clocks in which the plan's bytes pass the L2 cache, and in which the memory's do.
  double cache_clocks(const SelectiveScanCudaPlan& plan) const;
  double memory_clocks(const SelectiveScanCudaPlan& plan) const;

  const SelectiveScanProblem& problem_;
  const CudaFacts& device_;
  TokenCost output_[2], cluster_[2], summary_[2];  // by channels a thread
  double inputs_, rows_, outputs_, sums_;          // bytes: each tensor once; sums written and read
};

}  // namespace vimdeploy::cuda
