#include "scan/cuda/plan.h"

#include <algorithm>
#include <limits>
#include <sstream>

#include "scan/cuda/layout.h"
#include "scan/cuda/time_model.h"

namespace vimdeploy {
namespace {

// Chunks beyond two full waves of blocks only make the serial carry longer.
constexpr int64_t kMaxWaves = 2;
// Alignment of the workspace's parts, in bytes.
constexpr size_t kAlignment = 256;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

size_t aligned(int64_t floats) {
  return (static_cast<size_t>(floats) * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
}

int64_t floats_of_sums(const SelectiveScanProblem& problem) {
  return cuda::blocks_per_chunk(problem) * cuda::kChannelTile * cuda::tokens_of_sums(problem.tokens);
}

// The plan with that many chunks, with its sums in shared memory if enough blocks stay resident that way.
SelectiveScanCudaPlan plan_with_chunks(const SelectiveScanProblem& problem, const CudaFacts& device, int64_t chunks) {
  const auto plan = cuda_plan_with(problem, chunks, true);
  const int64_t per_multiprocessor = divide_up(cuda::blocks_per_chunk(problem) * plan.chunks, device.multiprocessors);
  const int64_t wanted = std::min(per_multiprocessor, cuda::blocks_in_registers(problem, cuda::threads_of(problem)));
  return cuda::resident_blocks(problem, plan, device) >= wanted ? plan : cuda_plan_with(problem, chunks, false);
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
  // The low rank of the step sizes and its weights are kept in shared memory.
  const int64_t groups = cuda::thread_groups_of(cuda::subscans_of_output(problem));
  const int64_t floats = device.shared_bytes_per_block / 4;
  const auto floats_with = [&](int64_t rank) {
    return cuda::shared_layout(groups, cuda::state_group_of(problem.states), rank, 0).floats;
  };
  const int64_t most_rank = (floats - floats_with(0)) / (floats_with(1) - floats_with(0));
  return check_at_most(op, "R (rank)", problem.rank, most_rank);
}

SelectiveScanCudaPlan cuda_plan_with(const SelectiveScanProblem& problem, int64_t chunks, bool sums_in_shared) {
  SelectiveScanCudaPlan plan;
  plan.name = problem.name;
  if (problem.batch == 0 || problem.tokens == 0) return plan;
  const int64_t summands = cuda::subscans_of_output(problem), subscans = summands * cuda::outputs_of(problem);
  const int state_group = cuda::state_group_of(problem.states);
  plan.channel_tile = cuda::kChannelTile;
  plan.state_group = state_group;
  plan.chunk_tokens = divide_up(divide_up(problem.tokens, chunks), cuda::kTokenTile) * cuda::kTokenTile;
  plan.chunks = divide_up(problem.tokens, plan.chunk_tokens);
  plan.sums_in_shared = sums_in_shared && summands > 1;

  const int64_t groups = cuda::thread_groups_of(summands);
  const int64_t tokens_of_sums = plan.sums_in_shared ? plan.chunk_tokens : 0;
  const int64_t shared_floats = cuda::shared_layout(groups, state_group, problem.rank, tokens_of_sums).floats;
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
  auto plan = plan_with_chunks(problem, device, 1);
  if (regime == Regime::sequences) return plan;
  const int64_t full_wave = device.multiprocessors * cuda::blocks_in_registers(problem, cuda::threads_of(problem));
  const int64_t filled = divide_up(kMaxWaves * full_wave, cuda::blocks_per_chunk(problem));
  const int64_t most = std::min(divide_up(problem.tokens, cuda::kTokenTile), std::max<int64_t>(2, filled));
  // Candidates 2, 3, 4, 6, 8, 12 ...: few enough to try all of them at every call.
  for (int64_t power = 2; power <= most; power *= 2) {
    for (int64_t chunks : {power, power / 2 * 3}) {
      if (chunks > most) continue;
      const auto candidate = plan_with_chunks(problem, device, chunks);
      const bool is_first = regime == Regime::chunks && plan.chunks == 1;
      const auto clocks = [&](const auto& of) { return cuda::expected_clocks(problem, of, device); };
      if (is_first || clocks(candidate) < clocks(plan)) plan = candidate;
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
    const int64_t full_wave = device.multiprocessors * cuda::blocks_in_registers(problem, cuda::kChannelTile);
    const int64_t blocks = kMaxWaves * full_wave + 2 * cuda::blocks_per_chunk(problem);
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
  text << ", " << channel_tile << " channels, " << state_group << (state_group == 1 ? " state" : " states") << " and "
       << shared_bytes << " bytes of shared memory a block, " << workspace_bytes << " bytes of workspace";
  if (sums_in_shared) text << ", sums in shared memory";
  return text.str();
}

}  // namespace vimdeploy
