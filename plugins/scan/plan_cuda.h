// How the CUDA kernels divide a problem: a pure function of the problem and the device, which can be printed.
//
// One block of threads takes `channel_tile` channels of one sequence of the batch through the tokens of one chunk, with
// a thread a channel in each of two groups that walk side by side (for Vim: the two directions). Two regimes:
//
//   sequences   one chunk: many sequences fill the device, and every exponential is computed once
//   chunks      few or long sequences: the tokens are cut into chunks that run side by side, in three launches: the end
//               state of every chunk, the states carried across the chunks, the outputs

#pragma once

#include <cstddef>
#include <string>

#include "scan/problem.h"

namespace vimdeploy {

// Of one device. The defaults are the least of any device that the kernels are compiled for (a Jetson Orin Nano's
// multiprocessors, Turing's shared memory), for a plan made where no device is.
struct CudaFacts {
  int64_t multiprocessors = 8;
  int64_t shared_bytes_per_multiprocessor = 64 << 10;
  int64_t shared_bytes_per_block = 64 << 10;  // what a kernel may opt in to
};

// `automatic` takes the one that should end first; the others are for whoever can measure: TensorRT's tactics, tests.
enum class Regime { automatic, sequences, chunks };

struct SelectiveScanCudaPlan {
  int64_t chunks = 0;        // 1 in regime `sequences`
  int64_t chunk_tokens = 0;  // of every chunk but the last
  int64_t channel_tile = 0;
  bool sums_in_shared = false;  // the sum over directions waits in shared memory, else in the workspace
  size_t workspace_bytes = 0;

  std::string to_string() const;
};

SelectiveScanCudaPlan cuda_plan_of(const SelectiveScanProblem& problem, const CudaFacts& device,
                                   Regime regime = Regime::automatic);

// What is enough for every problem that is no larger than `largest` in any size, in any regime.
size_t workspace_bound(const SelectiveScanProblem& largest, const CudaFacts& device);

}  // namespace vimdeploy
