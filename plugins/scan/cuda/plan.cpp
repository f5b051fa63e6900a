#include "scan/cuda/plan.h"

#include <algorithm>
#include <limits>
#include <sstream>

#include "scan/cuda/layout.h"

namespace vimdeploy {
namespace {

// Model of the run time, in clocks. Its numbers are counted or taken from tables; no GPU has confirmed them.

// Latency from a token to the next in one warp: shared memory, an exponential, two dependent multiply-adds.
constexpr int64_t kTokenLatency = 180;
// Instructions that a warp issues for a token of Vim, counted as output.h says: 88 for its 16 states, 68 for the rest;
// 276 if its threads have two channels. Its 18 exponentials and reciprocals a channel take only 144 clocks.
constexpr int64_t kStatesIssue = 88, kOtherIssue = 68, kTwoChannelsIssue = 276;
// From a block's start to its first token: two dependent loads from global memory.
constexpr int64_t kBlockStart = 1500;
// Regime `chunks`: two more launches, and for each chunk one step of the serial carry.
constexpr int64_t kExtraLaunches = 6000, kCarryStep = 30;
// Regime `chunks` passes over the tokens twice: for the states at the end, without C and y, and for the outputs.
constexpr int64_t kTwoPassPercent = 180;

// Shared memory that CUDA reserves for each block, in bytes.
constexpr int64_t kReservedShared = 1024;
// Chunks beyond two full waves of blocks only make the serial carry longer.
constexpr int64_t kMaxWaves = 2;
// Alignment of the workspace's parts, in bytes.
constexpr size_t kAlignment = 256;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

size_t aligned(int64_t floats) {
  return (static_cast<size_t>(floats) * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
}

// Threads of a block of the output kernel.
int64_t threads_of(const SelectiveScanProblem& problem, int64_t channels_per_thread) {
  return cuda::thread_groups_of(cuda::subscans_of_output(problem)) *
         cuda::group_threads(static_cast<int>(channels_per_thread));
}

// Blocks of the output kernel for one chunk of every sequence.
int64_t blocks_per_chunk(const SelectiveScanProblem& problem) {
  return cuda::outputs_of(problem) * problem.batch * divide_up(problem.channels, cuda::kChannelTile);
}

int64_t floats_of_sums(const SelectiveScanProblem& problem) {
  return blocks_per_chunk(problem) * cuda::kChannelTile * cuda::tokens_of_sums(problem.tokens);
}

// Blocks of `groups` thread groups that the registers of a multiprocessor hold.
int64_t blocks_in_registers(const SelectiveScanProblem& problem, int64_t groups, int64_t channels_per_thread) {
  const auto channels = static_cast<int>(channels_per_thread);
  return cuda::resident_threads(cuda::state_group_of(problem.states), channels) /
         (groups * cuda::group_threads(channels));
}

int64_t groups_of(const SelectiveScanProblem& problem) {
  return cuda::thread_groups_of(cuda::subscans_of_output(problem));
}

// Resident blocks of the output kernel on a multiprocessor; 0 if one needs more shared memory than a block may have.
int64_t resident_blocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                        const CudaFacts& device) {
  const auto bytes = static_cast<int64_t>(plan.shared_bytes);
  if (bytes > device.shared_bytes_per_block) return 0;
  return std::min(blocks_in_registers(problem, groups_of(problem), plan.channels_per_thread),
                  device.shared_bytes_per_multiprocessor / (bytes + kReservedShared));
}

// The plan with that many chunks, with its sums in shared memory if enough blocks stay resident that way.
SelectiveScanCudaPlan plan_with_chunks(const SelectiveScanProblem& problem, const CudaFacts& device, int64_t chunks,
                                       int64_t channels_per_thread) {
  const auto plan = cuda_plan_with(problem, chunks, true, channels_per_thread);
  const int64_t per_multiprocessor = divide_up(blocks_per_chunk(problem) * plan.chunks, device.multiprocessors);
  const int64_t wanted =
      std::min(per_multiprocessor, blocks_in_registers(problem, groups_of(problem), plan.channels_per_thread));
  return resident_blocks(problem, plan, device) >= wanted ? plan
                                                          : cuda_plan_with(problem, chunks, false, channels_per_thread);
}

int64_t clocks_of(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan, const CudaFacts& device) {
  const int64_t blocks = blocks_per_chunk(problem) * plan.chunks,
                passes = divide_up(cuda::subscans_of_output(problem), cuda::kThreadGroups),
                issue = plan.channels_per_thread == 2 ? kTwoChannelsIssue
                                                      : kOtherIssue + kStatesIssue * plan.state_group / 16;
  const int64_t resident = std::max<int64_t>(1, resident_blocks(problem, plan, device));
  // Time of a wave with `count` blocks on a multiprocessor, whose four schedulers share their warps.
  const auto wave = [&](int64_t count) {
    const int64_t warps = divide_up(count * threads_of(problem, plan.channels_per_thread), 4 * 32);
    return passes * (kBlockStart + plan.chunk_tokens * std::max(kTokenLatency, issue * warps));
  };
  const int64_t blocks_per_wave = resident * device.multiprocessors;
  const int64_t rest = divide_up(blocks % blocks_per_wave, device.multiprocessors);
  const int64_t one_pass = blocks / blocks_per_wave * wave(resident) + (rest > 0 ? wave(rest) : 0);
  if (plan.chunks == 1) return one_pass;
  return one_pass * kTwoPassPercent / 100 + kExtraLaunches + kCarryStep * plan.chunks;
}

// Indices within a sequence, and within a tile of a tensor whose rows are 2E long, are 32-bit; the directions' flags
// are the bits of a 64-bit number.
constexpr int64_t kMaxExtent = std::numeric_limits<int32_t>::max() / (2 * cuda::kTokenTile);
constexpr int64_t kMaxDirections = 64;
constexpr int64_t kMaxThreads = std::numeric_limits<uint32_t>::max() - cuda::kThreads;

Status check_at_most(const char* op, const char* what, int64_t found, int64_t most) {
  if (found <= most) return {};
  return Status::error(std::string(op) + ": " + what + " is " + std::to_string(found) +
                       ", the CUDA kernels take at most " + std::to_string(most) + " here; run this model on the CPU");
}

template <typename Problem>
Status check_common(const Problem& problem) {
  const char* op = problem.name;
  if (Status s = check_at_most(op, "K (directions)", problem.directions(), kMaxDirections); !s.ok()) return s;
  if (Status s = check_at_most(op, "B (batch)", problem.batch, kMaxExtent); !s.ok()) return s;
  if (Status s = check_at_most(op, "L (tokens)", problem.tokens, kMaxExtent); !s.ok()) return s;
  return check_at_most(op, "E (channels)", problem.channels, kMaxExtent);
}

}  // namespace

CudaFacts facts_to_plan_with(const CudaFacts& built, const CudaFacts& here) {
  return {built.multiprocessors, std::min(built.shared_bytes_per_multiprocessor, here.shared_bytes_per_multiprocessor),
          std::min(built.shared_bytes_per_block, here.shared_bytes_per_block)};
}

Status check(const Conv1dProblem& problem, const CudaFacts&) {
  if (Status s = check_common(problem); !s.ok()) return s;
  if (Status s = check_at_most(problem.name, "W (width)", problem.width, kMaxExtent); !s.ok()) return s;
  // Indices within a run of tokens are 32-bit.
  if (Status s = check_at_most(problem.name, "X (channels of x)", problem.row, 2 * kMaxExtent); !s.ok()) return s;
  // Thread indices are 32-bit: one thread for each run of eight tokens of a channel.
  const int64_t runs = problem.batch * divide_up(problem.tokens, cuda::kTokenTile);
  return check_at_most(problem.name, "B * L / 8 (runs of tokens)", runs, kMaxThreads / problem.channels);
}

Status check(const SelectiveScanProblem& problem, const CudaFacts& device) {
  const char* op = problem.name;
  if (Status s = check_common(problem); !s.ok()) return s;
  if (Status s = check_at_most(op, "N (states)", problem.states, kMaxExtent / kMaxDirections); !s.ok()) return s;
  // The weights of the low rank of the step sizes are kept in shared memory, kInner ranks at a time or one by one.
  const int64_t groups = cuda::thread_groups_of(cuda::subscans_of_output(problem)), bytes = bytes_of(problem.type);
  const int64_t at_once = cuda::multiplies_by_warp(bytes) ? cuda::kInner : 1,
                floats = device.shared_bytes_per_block / 4;
  const auto floats_with = [&](int64_t steps) { return cuda::shared_layout(groups, bytes, steps * at_once, 0).floats; };
  const int64_t most_steps = 2 + (floats - floats_with(2)) / (floats_with(3) - floats_with(2));
  return check_at_most(op, "R (rank)", problem.rank, most_steps * at_once);
}

SelectiveScanCudaPlan cuda_plan_with(const SelectiveScanProblem& problem, int64_t chunks, bool sums_in_shared,
                                     int64_t channels_per_thread) {
  SelectiveScanCudaPlan plan;
  plan.name = problem.name;
  if (problem.batch == 0 || problem.tokens == 0) return plan;
  const int64_t summands = cuda::subscans_of_output(problem), subscans = summands * cuda::outputs_of(problem);
  const int state_group = cuda::state_group_of(problem.states);
  plan.channel_tile = cuda::kChannelTile;
  plan.channels_per_thread =
      std::min<int64_t>(channels_per_thread, cuda::most_channels_per_thread(state_group, problem.channels));
  plan.state_group = state_group;
  plan.chunk_tokens = divide_up(divide_up(problem.tokens, chunks), cuda::kTokenTile) * cuda::kTokenTile;
  plan.chunks = divide_up(problem.tokens, plan.chunk_tokens);
  plan.sums_in_shared = sums_in_shared && summands > 1;

  const int64_t groups = cuda::thread_groups_of(summands);
  const int64_t tokens_of_sums = plan.sums_in_shared ? plan.chunk_tokens : 0;
  const int64_t shared_floats =
      cuda::shared_layout(groups, bytes_of(problem.type), problem.rank, tokens_of_sums).floats;
  plan.shared_bytes = static_cast<size_t>(shared_floats) * sizeof(float);

  const int64_t ends = plan.chunks > 1 ? problem.batch * plan.chunks * problem.channels : 0;
  const bool has_sums = summands > 1 && !sums_in_shared;
  plan.chunk_dt = plan.chunk_states + aligned(subscans * ends * state_group);
  plan.sums = plan.chunk_dt + aligned(problem.directions() * ends);
  plan.workspace_bytes = plan.sums + aligned(has_sums ? floats_of_sums(problem) : 0);
  return plan;
}

SelectiveScanCudaPlan cuda_plan_of(const SelectiveScanProblem& problem, const CudaFacts& device, Regime regime) {
  if (problem.batch == 0 || problem.tokens == 0) return cuda_plan_with(problem, 1, false);
  const auto is_better = [&](const SelectiveScanCudaPlan& a, const SelectiveScanCudaPlan& b) {
    return clocks_of(problem, a, device) < clocks_of(problem, b, device);
  };
  const auto best_with = [&](int64_t chunks) {
    const auto one = plan_with_chunks(problem, device, chunks, 1), two = plan_with_chunks(problem, device, chunks, 2);
    return is_better(two, one) ? two : one;
  };
  auto plan = best_with(1);
  if (regime == Regime::sequences) return plan;
  const int64_t full_wave = device.multiprocessors * blocks_in_registers(problem, groups_of(problem), 1);
  const int64_t filled = divide_up(kMaxWaves * full_wave, blocks_per_chunk(problem));
  const int64_t most = std::min(divide_up(problem.tokens, cuda::kTokenTile), std::max<int64_t>(2, filled));
  // Candidates 2, 3, 4, 6, 8, 12 ...: few enough to try all of them at every call.
  for (int64_t power = 2; power <= most; power *= 2) {
    for (int64_t chunks : {power, power / 2 * 3}) {
      if (chunks > most) continue;
      const auto candidate = best_with(chunks);
      const bool is_first = regime == Regime::chunks && plan.chunks == 1;
      if (is_first || is_better(candidate, plan)) plan = candidate;
    }
  }
  return plan;
}

size_t workspace_bound(const SelectiveScanProblem& largest, const CudaFacts& device) {
  const int64_t outputs = cuda::outputs_of(largest), tiles = divide_up(largest.tokens, cuda::kTokenTile);
  size_t most = 0;
  for (int64_t state_group : cuda::kStateGroups) {  // smaller ones, too, for a problem with fewer states
    SelectiveScanProblem problem = largest;
    problem.states = std::min(largest.states, state_group);
    if (cuda::state_group_of(largest.states) == state_group) problem.states = largest.states;
    // The ends of chunks of all outputs are bounded by the most chunks of a sequence, and by the most blocks of a plan,
    // each of which has a channel tile.
    const int64_t full_wave = device.multiprocessors * blocks_in_registers(problem, 1, 1);
    const int64_t blocks = kMaxWaves * full_wave + 2 * blocks_per_chunk(problem);
    const int64_t ends = std::min(outputs * problem.batch * tiles * problem.channels, blocks * cuda::kChannelTile);
    const int64_t states = cuda::subscans_of_output(problem) * state_group;
    most = std::max(most, aligned(states * ends) + aligned(problem.directions() / outputs * ends));
    if (problem.states == largest.states) break;
  }
  return most + aligned(floats_of_sums(largest));
}

std::string SelectiveScanCudaPlan::to_string() const {
  std::ostringstream text;
  text << name << " on CUDA: ";
  if (chunks == 0) {
    text << "nothing to do";
  } else if (chunks == 1) {
    text << "whole sequences of " << chunk_tokens << " tokens";
  } else {
    text << chunks << " chunks of " << chunk_tokens << " tokens";
  }
  if (chunks == 0) return text.str();
  text << ", " << channel_tile << " channels, " << (channels_per_thread == 2 ? "two for each thread, " : "")
       << state_group << (state_group == 1 ? " state" : " states") << " and " << shared_bytes
       << " bytes of shared memory a block, " << workspace_bytes << " bytes of workspace";
  if (sums_in_shared) text << ", sums in shared memory";
  return text.str();
}

}  // namespace vimdeploy
