// How the CUDA kernels divide a problem: a pure function of the problem and the device, which can be printed.
//
// One block of threads takes kChannelTile channels of one sequence of the batch through the tokens of one chunk. A
// thread walks one channel of one item, which is a direction and a group of kStateGroup states; a block has two groups
// of threads, whose two items walk side by side (for Vim: the two directions). Two regimes:
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
// A sequence that is too short to be cut is one chunk in any regime.
enum class Regime { automatic, sequences, chunks };

struct SelectiveScanCudaPlan {
  int64_t chunks = 0;        // 1 in regime `sequences`
  int64_t chunk_tokens = 0;  // of every chunk but the last
  int64_t channel_tile = 0;
  bool sums_in_shared = false;  // the sum over items waits in shared memory, else in the workspace
  size_t shared_bytes = 0;      // of a block of the last launch, which needs the most

  // The workspace's parts: where they begin, in bytes.
  size_t chunk_states = 0;  // (items, B, chunks, kStateGroup, E) float32; empty with one chunk
  size_t chunk_dt = 0;      // (K, B, chunks, E) float32: sums of the step sizes; empty with one chunk
  size_t sums = 0;          // (B, E up, L up) float32, as in cuda/arguments.h; empty with one item or sums_in_shared
  size_t workspace_bytes = 0;

  std::string to_string() const;
};

// Whether the kernels can take the problem on this device; the problem has passed check().
Status check(const Conv1dProblem& problem, const CudaFacts& device);
Status check(const SelectiveScanProblem& problem, const CudaFacts& device);

SelectiveScanCudaPlan cuda_plan_of(const SelectiveScanProblem& problem, const CudaFacts& device,
                                   Regime regime = Regime::automatic);

// The plan of a device that is known to do best with at most so many chunks: what cuda_plan_of chooses among.
SelectiveScanCudaPlan cuda_plan_with(const SelectiveScanProblem& problem, int64_t chunks, bool sums_in_shared);

// What is enough for every problem that is no larger than `largest` in any size, in any regime.
size_t workspace_bound(const SelectiveScanProblem& largest, const CudaFacts& device);

}  // namespace vimdeploy
