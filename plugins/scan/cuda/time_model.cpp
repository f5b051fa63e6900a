#include "scan/cuda/time_model.h"

#include <algorithm>

#include "scan/cuda/layout.h"

namespace vimdeploy::cuda {
namespace {

// Latency from a token to the next in one warp: shared memory, an exponential, two dependent multiply-adds.
constexpr int64_t kTokenLatency = 180;
// Instructions that a warp issues for a token of Vim, counted as output.h says: 88 for its 16 states, 68 for the rest;
// 276 if its threads have two channels. Its 18 exponentials and reciprocals a channel take only 144 clocks.
constexpr int64_t kStatesIssue = 88, kOtherIssue = 68, kTwoChannelsIssue = 276;
// From a block's start to its first token: two dependent loads from global memory.
constexpr int64_t kBlockStart = 1500;
// A launch after another one.
constexpr int64_t kLaunch = 3000;
// What carrying states from a chunk to the next takes, by a launch of its own and at the start of the second walk: there
// (state_group + 1) * kChannelTile floats come from the L2 cache, at some 32 bytes a clock.
constexpr int64_t kCarryStep = 30, kCombineStep = 250;
// The first walk over the tokens of a chunk, against the second one: without C and y. In a cluster it has them, too.
constexpr int64_t kFirstWalkPercent = 80, kFirstWalkInClusterPercent = 95;
// A barrier of a cluster. Bytes a clock that a multiprocessor exchanges with others: 3.3 TB/s for all 132 of an H100,
// measured by Luo et al., Benchmarking and Dissecting the Nvidia Hopper GPU Architecture (2024).
constexpr int64_t kClusterBarrier = 400, kClusterBytes = 14;

// Shared memory that CUDA reserves for each block, in bytes.
constexpr int64_t kReservedShared = 1024;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

int64_t groups_of(const SelectiveScanProblem& problem) { return thread_groups_of(subscans_of_output(problem)); }

int64_t blocks_per_chunk(const SelectiveScanProblem& problem) {
  return outputs_of(problem) * problem.batch * divide_up(problem.channels, kChannelTile);
}

int64_t blocks_in_registers(const SelectiveScanProblem& problem, int64_t groups, int64_t channels_per_thread) {
  const auto channels = static_cast<int>(channels_per_thread);
  return resident_threads(state_group_of(problem.states), channels) / (groups * group_threads(channels));
}

int64_t resident_blocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                        const CudaFacts& device) {
  const auto bytes = static_cast<int64_t>(plan.shared_bytes);
  if (bytes > device.shared_bytes_per_block) return 0;
  return std::min(blocks_in_registers(problem, groups_of(problem), plan.channels_per_thread),
                  device.shared_bytes_per_multiprocessor / (bytes + kReservedShared));
}

int64_t expected_clocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                        const CudaFacts& device) {
  const int64_t blocks = blocks_per_chunk(problem) * plan.chunks,
                passes = divide_up(subscans_of_output(problem), kThreadGroups),
                threads = groups_of(problem) * group_threads(static_cast<int>(plan.channels_per_thread)),
                issue = plan.channels_per_thread == 2 ? kTwoChannelsIssue
                                                      : kOtherIssue + kStatesIssue * plan.state_group / 16;
  const int64_t resident = std::max<int64_t>(1, resident_blocks(problem, plan, device));
  // Time of a wave with `count` blocks on a multiprocessor, whose four schedulers share their warps.
  const auto wave = [&](int64_t count) {
    const int64_t warps = divide_up(count * threads, 4 * 32);
    return passes * (kBlockStart + plan.chunk_tokens * std::max(kTokenLatency, issue * warps));
  };
  const int64_t blocks_per_wave = resident * device.multiprocessors;
  const int64_t rest = divide_up(blocks % blocks_per_wave, device.multiprocessors);
  const int64_t one_pass = blocks / blocks_per_wave * wave(resident) + (rest > 0 ? wave(rest) : 0);
  const auto two_walks = [&](int64_t first_walk_percent) { return one_pass * (100 + first_walk_percent) / 100; };
  switch (plan.schedule) {
    case Schedule::sequences:
      return one_pass;
    case Schedule::cluster: {
      // Every state is read and written once, with a step size for every chunk that it is carried through.
      const int64_t rows = 2 * plan.state_group + std::max(plan.state_group, plan.chunks);
      const int64_t bytes = rows * threads * 4 * std::min(resident, divide_up(blocks, device.multiprocessors));
      return two_walks(kFirstWalkInClusterPercent) + passes * (2 * kClusterBarrier + bytes / kClusterBytes - kBlockStart);
    }
    case Schedule::two_launches:
      return two_walks(kFirstWalkPercent) + kLaunch + kCombineStep * plan.chunks;
    case Schedule::three_launches:
      return two_walks(kFirstWalkPercent) + 2 * kLaunch + kCarryStep * plan.chunks;
  }
  return one_pass;
}

}  // namespace vimdeploy::cuda
