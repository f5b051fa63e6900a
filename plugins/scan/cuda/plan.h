// How the CUDA kernels divide a problem: a pure function of the problem and the device, which can be printed.
//
// A thread block scans kChannelTile channels of one output and one sequence of the batch over the tokens of one chunk.
// A thread scans one channel, or two adjacent ones, of one subscan, which is one direction with a group of states. If
// the output is the sum of several subscans, a block has two thread groups, which compute two of them side by side (for
// Vim: the two directions). Two regimes:
//
//   sequences   one chunk: many sequences fill the device, and every exponential is computed once
//   chunks      few or long sequences: the tokens are cut into chunks that run in parallel, in three launches: the
//               states at the end of every chunk, the states carried from chunk to chunk, the outputs

#pragma once

#include <cstddef>
#include <string>

#include "scan/problem.h"

namespace vimdeploy {

// Properties of a device. The defaults are the smallest of any device that the kernels are compiled for (a Jetson Orin
// Nano's multiprocessors, Turing's shared memory), for a plan that is made without a device.
struct CudaFacts {
  int64_t multiprocessors = 8;
  int64_t shared_bytes_per_multiprocessor = 64 << 10;
  int64_t shared_bytes_per_block = 64 << 10;  // the most that a kernel can opt in to
};

// What to plan with on `here` if the workspace was requested for plans made for `built`, another device: the workspace
// is enough for the multiprocessors of `built`, and a block may use the shared memory that both have.
CudaFacts facts_to_plan_with(const CudaFacts& built, const CudaFacts& here);

// `automatic` takes the regime that the model of time expects to be faster; the others are for callers that can
// measure: TensorRT's tactics, tests. A sequence that is too short to be cut is one chunk in any regime.
enum class Regime { automatic, sequences, chunks };

struct SelectiveScanCudaPlan {
  const char* name = "";     // of the operator
  int64_t chunks = 0;        // 1 in regime `sequences`
  int64_t chunk_tokens = 0;  // in every chunk but the last
  int64_t channel_tile = 0;
  int64_t channels_per_thread = 1;
  int64_t state_group = 0;      // states of a subscan
  bool sums_in_shared = false;  // the sum over subscans is kept in shared memory, else in the workspace
  size_t shared_bytes = 0;      // for a block of the output kernel, which needs the most

  // Offsets of the workspace's parts, in bytes.
  size_t chunk_states = 0;  // (subscans, B, chunks, state_group, E) float32; empty with one chunk
  size_t chunk_dt = 0;      // (K, B, chunks, E) float32: sums of the step sizes; empty with one chunk
  size_t sums = 0;          // float32, see ScanArguments::sums; empty with one subscan or sums_in_shared
  size_t workspace_bytes = 0;

  std::string to_string() const;
};

// Whether the kernels can take the problem on this device; the problem has passed check().
Status check(const Conv1dProblem& problem, const CudaFacts& device);
Status check(const SelectiveScanProblem& problem, const CudaFacts& device);

SelectiveScanCudaPlan cuda_plan_of(const SelectiveScanProblem& problem, const CudaFacts& device,
                                   Regime regime = Regime::automatic);

// The plan with at most `chunks` chunks, and at most that many channels a thread: one of the candidates that
// cuda_plan_of chooses from.
SelectiveScanCudaPlan cuda_plan_with(const SelectiveScanProblem& problem, int64_t chunks, bool sums_in_shared,
                                     int64_t channels_per_thread = 1);

// Bytes of workspace that are enough for every problem that is no larger than `largest` in any size, in any regime,
// with any shared memory.
size_t workspace_bound(const SelectiveScanProblem& largest, const CudaFacts& device);

}  // namespace vimdeploy
