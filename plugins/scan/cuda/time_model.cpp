#include "scan/cuda/time_model.h"

#include <algorithm>

#include "scan/cuda/layout.h"

namespace vimdeploy::cuda {
namespace {

// Latency from a token to the next in one warp: shared memory, an exponential, two dependent multiply-adds.
constexpr int64_t kTokenLatency = 180;
// Instructions that a warp issues for a token of Vim, counted as output.h says: 88 for its 16 states, 68 for the rest.
// Its 18 exponentials and reciprocals take only 144 clocks.
constexpr int64_t kStatesIssue = 88, kOtherIssue = 68;
// From a block's start to its first token: two dependent loads from global memory.
constexpr int64_t kBlockStart = 1500;
// Regime `chunks`: two more launches, and for each chunk one step of the serial carry.
constexpr int64_t kExtraLaunches = 6000, kCarryStep = 30;
// Regime `chunks` passes over the tokens twice: for the states at the end, without C and y, and for the outputs.
constexpr int64_t kTwoPassPercent = 180;

// Shared memory that CUDA reserves for each block, in bytes.
constexpr int64_t kReservedShared = 1024;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

int64_t threads_of(const SelectiveScanProblem& problem) {
  return thread_groups_of(subscans_of_output(problem)) * kChannelTile;
}

int64_t blocks_per_chunk(const SelectiveScanProblem& problem) {
  return outputs_of(problem) * problem.batch * divide_up(problem.channels, kChannelTile);
}

int64_t blocks_in_registers(const SelectiveScanProblem& problem, int64_t threads) {
  return resident_threads(state_group_of(problem.states)) / threads;
}

int64_t resident_blocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                        const CudaFacts& device) {
  const auto bytes = static_cast<int64_t>(plan.shared_bytes);
  if (bytes > device.shared_bytes_per_block) return 0;
  return std::min(blocks_in_registers(problem, threads_of(problem)),
                  device.shared_bytes_per_multiprocessor / (bytes + kReservedShared));
}

int64_t expected_clocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                        const CudaFacts& device) {
  const int64_t blocks = blocks_per_chunk(problem) * plan.chunks,
                passes = divide_up(subscans_of_output(problem), kThreadGroups),
                issue = kOtherIssue + kStatesIssue * plan.state_group / 16;
  const int64_t resident = std::max<int64_t>(1, resident_blocks(problem, plan, device));
  // Time of a wave with `count` blocks on a multiprocessor, whose four schedulers share their warps.
  const auto wave = [&](int64_t count) {
    const int64_t warps = divide_up(count * threads_of(problem), 4 * 32);
    return passes * (kBlockStart + plan.chunk_tokens * std::max(kTokenLatency, issue * warps));
  };
  const int64_t blocks_per_wave = resident * device.multiprocessors;
  const int64_t rest = divide_up(blocks % blocks_per_wave, device.multiprocessors);
  const int64_t one_pass = blocks / blocks_per_wave * wave(resident) + (rest > 0 ? wave(rest) : 0);
  if (plan.chunks == 1) return one_pass;
  return one_pass * kTwoPassPercent / 100 + kExtraLaunches + kCarryStep * plan.chunks;
}

}  // namespace vimdeploy::cuda
