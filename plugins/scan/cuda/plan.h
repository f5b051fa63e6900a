// How the CUDA kernels divide a problem: a pure function of the problem and the device, which can be printed.
//
// A thread block scans kChannelTile channels of one output and one sequence of the batch over the tokens of one chunk.
// A thread scans one channel, or two adjacent ones, of one subscan, which is one direction with a group of states. If
// the output is the sum of several subscans, a block has two thread groups, which compute two of them side by side (for
// Vim: the two directions). Many sequences fill the device as they are; few or long ones are cut into chunks that run
// in parallel.

#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "scan/problem.h"

namespace vimdeploy {

// Properties of a device. The defaults are the smallest of any device that the kernels are compiled for (a Jetson Orin
// Nano's multiprocessors, Turing's shared memory), for a plan that is made without a device.
struct CudaFacts {
  int64_t multiprocessors = 8;
  int64_t shared_bytes_per_multiprocessor = 64 << 10;
  int64_t shared_bytes_per_block = 64 << 10;  // the most that a kernel can opt in to
  int64_t compute_capability = 75;            // ten times the major number plus the minor one
  int64_t largest_cluster = 1;                // thread blocks; 1 if the device or the library knows no clusters
  int64_t clock_khz = 1000000;                // of the multiprocessors, at most
  int64_t memory_mb_per_s = 68000;            // bandwidth, 10^6 bytes a second
  int64_t cache_bytes = 2 << 20;              // of the L2 cache
};

// What to plan with on `here` if the workspace was requested for plans made for `built`, another device: the workspace
// is enough for the multiprocessors of `built`; a block may use the shared memory that both have, and a cluster is no
// larger than either takes.
CudaFacts facts_to_plan_with(const CudaFacts& built, const CudaFacts& here);

// What is launched. A chunk begins with the states that the chunks before it leave behind, so the others than the first
// walk over the tokens twice: for the states at the end of every chunk, if it begins with states of zero, and for the
// outputs. The states are carried from chunk to chunk in between:
enum class Schedule {
  sequences,      // one chunk: every exponential is computed once
  cluster,        // in one launch: the blocks of all chunks are a cluster, and use each other's shared memory
  two_launches,   // at the start of the second walk: every block combines the ends of all chunks before its own
  three_launches  // by a launch of its own: for more chunks than a block can combine in its time
};
inline constexpr Schedule kSchedules[] = {Schedule::sequences, Schedule::cluster, Schedule::two_launches,
                                          Schedule::three_launches};

struct SelectiveScanCudaPlan {
  const char* name = "";  // of the operator
  Schedule schedule = Schedule::sequences;
  int64_t chunks = 0;        // 1 in Schedule::sequences, the blocks of a cluster in Schedule::cluster
  int64_t chunk_tokens = 0;  // in every chunk but the last
  int64_t channel_tile = 0;
  int64_t channels_per_thread = 1;
  int64_t state_group = 0;      // states of a subscan
  bool sums_in_shared = false;  // the sum over subscans is kept in shared memory, else in the workspace
  size_t shared_bytes = 0;      // for a block of the output kernel, which needs the most

  // Offsets of the workspace's parts, in bytes.
  size_t ends = 0;  // float32, see ScanArguments::ends; empty unless there are several launches
  size_t sums = 0;  // float32, see ScanArguments::sums; empty with one subscan or sums_in_shared
  size_t workspace_bytes = 0;

  std::string to_string() const;
};

// Whether the kernels can take the problem on this device; the problem has passed check().
Status check(const Conv1dProblem& problem, const CudaFacts& device);
Status check(const SelectiveScanProblem& problem, const CudaFacts& device);

// The plan that the model of time expects to be the fastest. `wanted` is for callers that can measure, TensorRT's
// tactics and tests: the fastest with that schedule, or with any if this problem on this device has none with it (a
// sequence that is too short to be cut, a device without clusters).
SelectiveScanCudaPlan cuda_plan_of(const SelectiveScanProblem& problem, const CudaFacts& device,
                                   std::optional<Schedule> wanted = {});

// The plan with at most `chunks` chunks, one if `schedule` is Schedule::sequences, and at most that many channels a
// thread: a candidate that cuda_plan_of chooses from.
SelectiveScanCudaPlan cuda_plan_with(const SelectiveScanProblem& problem, Schedule schedule, int64_t chunks,
                                     bool sums_in_shared, int64_t channels_per_thread);

// Bytes of workspace that are enough for every problem that is no larger than `largest` in any size, with any schedule
// and any shared memory.
size_t workspace_bound(const SelectiveScanProblem& largest, const CudaFacts& device);

}  // namespace vimdeploy
