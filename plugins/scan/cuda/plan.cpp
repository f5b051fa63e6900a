#include "scan/cuda/plan.h"

#include <algorithm>
#include <limits>
#include <sstream>

#include "scan/cuda/layout.h"

namespace vimdeploy {
namespace {

// The model of time, in clocks. Its numbers are counted or taken from tables, and no GPU has confirmed them.

// From a token to the next of one warp: shared memory, an exponential, two dependent multiply-adds.
constexpr int64_t kTokenLatency = 180;
// Instructions of a warp for a token of Vim's, counted as output.h says. The 18 exponentials and reciprocals would take
// 144.
constexpr int64_t kTokenIssue = 156;
// From a block's start to its first token: two trips to memory, one after the other.
constexpr int64_t kBlockStart = 1500;
// Two launches more, and for each chunk a step of the chain of states.
constexpr int64_t kExtraLaunches = 6000, kCarryStep = 30;
// A chunk's tokens are walked for the end state, without C and y, and again for the outputs.
constexpr int64_t kBothWalksPercent = 180;

// What a block takes beside its own shared memory.
constexpr int64_t kReservedShared = 1024;
// More chunks than fill the device twice only add to the chain of states.
constexpr int64_t kFills = 2;
// Parts of the workspace begin at a multiple of this, in bytes.
constexpr size_t kAlignment = 256;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

size_t aligned(int64_t floats) {
  return (static_cast<size_t>(floats) * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
}

int64_t threads_of(const SelectiveScanProblem& problem) {
  return cuda::groups_of(cuda::items_of(problem)) * cuda::kChannelTile;
}

// Blocks of `output` for each chunk of the tokens.
int64_t areas_of(const SelectiveScanProblem& problem) {
  return problem.batch * divide_up(problem.channels, cuda::kChannelTile);
}

int64_t floats_of_sums(const SelectiveScanProblem& problem) {
  return areas_of(problem) * cuda::kChannelTile * cuda::tokens_of_sums(problem.tokens);
}

// Blocks of so many threads that the device's registers hold.
int64_t blocks_at_once(const CudaFacts& device, int64_t threads) {
  return device.multiprocessors * (cuda::kResidentThreads / threads);
}

// Blocks of `output` that stay on a multiprocessor; none where one needs more shared memory than it may have.
int64_t resident_blocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                        const CudaFacts& device) {
  const auto bytes = static_cast<int64_t>(plan.shared_bytes);
  if (bytes > device.shared_bytes_per_block) return 0;
  return std::min(cuda::kResidentThreads / threads_of(problem),
                  device.shared_bytes_per_multiprocessor / (bytes + kReservedShared));
}

// The plan with that many chunks, its sums in shared memory where enough blocks stay resident with them.
SelectiveScanCudaPlan plan_with_chunks(const SelectiveScanProblem& problem, const CudaFacts& device, int64_t chunks) {
  const auto plan = cuda_plan_with(problem, chunks, true);
  const int64_t there = divide_up(areas_of(problem) * plan.chunks, device.multiprocessors);
  const int64_t wanted = std::min(there, cuda::kResidentThreads / threads_of(problem));
  return resident_blocks(problem, plan, device) >= wanted ? plan : cuda_plan_with(problem, chunks, false);
}

int64_t clocks_of(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan, const CudaFacts& device) {
  const int64_t blocks = areas_of(problem) * plan.chunks, passes = divide_up(cuda::items_of(problem), cuda::kGroups);
  const int64_t resident = std::max<int64_t>(1, resident_blocks(problem, plan, device));
  // Of that many blocks on a multiprocessor, whose four schedulers share their warps.
  const auto round = [&](int64_t count) {
    const int64_t warps = divide_up(count * threads_of(problem), 4 * 32);
    return passes * (kBlockStart + plan.chunk_tokens * std::max(kTokenLatency, kTokenIssue * warps));
  };
  const int64_t in_a_round = resident * device.multiprocessors;
  const int64_t rest = divide_up(blocks % in_a_round, device.multiprocessors);
  const int64_t walk = blocks / in_a_round * round(resident) + (rest > 0 ? round(rest) : 0);
  if (plan.chunks == 1) return walk;
  return walk * kBothWalksPercent / 100 + kExtraLaunches + kCarryStep * plan.chunks;
}

// Places in a sequence, and in a tile of two rows of tokens, are counted in 32 bits, directions' flags in 64.
constexpr int64_t kMostPlaces = std::numeric_limits<int32_t>::max() / (2 * cuda::kTokenTile);
constexpr int64_t kMostDirections = 64;
constexpr int64_t kMostThreads = std::numeric_limits<uint32_t>::max() - cuda::kThreads;

Status check_at_most(const char* op, const char* what, int64_t found, int64_t most) {
  if (found <= most) return {};
  return Status::error(std::string(op) + ": " + what + " is " + std::to_string(found) +
                       ", the CUDA kernels take at most " + std::to_string(most) + " here; run this model on the CPU");
}

template <typename Problem>
Status check_common(const char* op, const Problem& problem) {
  if (Status s = check_at_most(op, "K (directions)", problem.directions(), kMostDirections); !s.ok()) return s;
  if (Status s = check_at_most(op, "B (batch)", problem.batch, kMostPlaces); !s.ok()) return s;
  if (Status s = check_at_most(op, "L (tokens)", problem.tokens, kMostPlaces); !s.ok()) return s;
  return check_at_most(op, "E (channels)", problem.channels, kMostPlaces);
}

}  // namespace

Status check(const Conv1dProblem& problem, const CudaFacts&) {
  if (Status s = check_common(kConv1dName, problem); !s.ok()) return s;
  if (Status s = check_at_most(kConv1dName, "W (width)", problem.width, kMostPlaces); !s.ok()) return s;
  // Threads are counted in 32 bits: one for each run of eight tokens of a channel.
  const int64_t runs = problem.batch * divide_up(problem.tokens, cuda::kTokenTile);
  return check_at_most(kConv1dName, "B * L / 8 (runs of tokens)", runs, kMostThreads / problem.channels);
}

Status check(const SelectiveScanProblem& problem, const CudaFacts& device) {
  const char* op = kSelectiveScanName;
  if (Status s = check_common(op, problem); !s.ok()) return s;
  if (Status s = check_at_most(op, "N (states)", problem.states, kMostPlaces / kMostDirections); !s.ok()) return s;
  // The low rank and its weights lie in shared memory.
  const int64_t groups = cuda::groups_of(cuda::items_of(problem)), floats = device.shared_bytes_per_block / 4;
  const int64_t others = cuda::shared_layout(groups, 0, 0).floats;
  const int64_t most_rank = (floats - others) / (cuda::shared_layout(groups, 1, 0).floats - others);
  return check_at_most(op, "R (rank)", problem.rank, most_rank);
}

SelectiveScanCudaPlan cuda_plan_with(const SelectiveScanProblem& problem, int64_t chunks, bool sums_in_shared) {
  SelectiveScanCudaPlan plan;
  if (problem.batch == 0 || problem.tokens == 0) return plan;
  const int64_t items = cuda::items_of(problem);
  plan.channel_tile = cuda::kChannelTile;
  plan.chunk_tokens = divide_up(divide_up(problem.tokens, chunks), cuda::kTokenTile) * cuda::kTokenTile;
  plan.chunks = divide_up(problem.tokens, plan.chunk_tokens);
  plan.sums_in_shared = sums_in_shared && items > 1;

  const int64_t tokens_of_sums = plan.sums_in_shared ? plan.chunk_tokens : 0;
  plan.shared_bytes =
      static_cast<size_t>(cuda::shared_layout(cuda::groups_of(items), problem.rank, tokens_of_sums).floats) *
      sizeof(float);

  const int64_t ends = plan.chunks > 1 ? problem.batch * plan.chunks * problem.channels : 0;
  const bool has_sums = items > 1 && !sums_in_shared;
  plan.chunk_dt = plan.chunk_states + aligned(items * ends * cuda::kStateGroup);
  plan.sums = plan.chunk_dt + aligned(problem.directions() * ends);
  plan.workspace_bytes = plan.sums + aligned(has_sums ? floats_of_sums(problem) : 0);
  return plan;
}

SelectiveScanCudaPlan cuda_plan_of(const SelectiveScanProblem& problem, const CudaFacts& device, Regime regime) {
  if (problem.batch == 0 || problem.tokens == 0) return {};
  auto plan = plan_with_chunks(problem, device, 1);
  if (regime == Regime::sequences) return plan;
  const int64_t filled = divide_up(kFills * blocks_at_once(device, threads_of(problem)), areas_of(problem));
  const int64_t most = std::min(divide_up(problem.tokens, cuda::kTokenTile), std::max<int64_t>(2, filled));
  // 2, 3, 4, 6, 8, 12 ...: few enough to try at every call.
  for (int64_t power = 2; power <= most; power *= 2) {
    for (int64_t chunks : {power, power / 2 * 3}) {
      if (chunks > most) continue;
      const auto candidate = plan_with_chunks(problem, device, chunks);
      const bool is_first = regime == Regime::chunks && plan.chunks == 1;
      if (is_first || clocks_of(problem, candidate, device) < clocks_of(problem, plan, device)) plan = candidate;
    }
  }
  return plan;
}

size_t workspace_bound(const SelectiveScanProblem& largest, const CudaFacts& device) {
  // B * chunks * E is bounded by the chunks of a sequence, and by the blocks of a plan, each of a channel tile.
  const int64_t blocks = kFills * blocks_at_once(device, cuda::kChannelTile) + 2 * areas_of(largest);
  const int64_t ends = std::min(largest.batch * divide_up(largest.tokens, cuda::kTokenTile) * largest.channels,
                                blocks * cuda::kChannelTile);
  return aligned(cuda::items_of(largest) * ends * cuda::kStateGroup) + aligned(largest.directions() * ends) +
         aligned(floats_of_sums(largest));
}

std::string SelectiveScanCudaPlan::to_string() const {
  std::ostringstream text;
  text << kSelectiveScanName << " on CUDA: ";
  if (chunks == 0) {
    text << "nothing to do";
  } else if (chunks == 1) {
    text << "whole sequences of " << chunk_tokens << " tokens";
  } else {
    text << chunks << " chunks of " << chunk_tokens << " tokens";
  }
  if (chunks == 0) return text.str();
  text << ", " << channel_tile << " channels and " << shared_bytes << " bytes of shared memory a block, "
       << workspace_bytes << " bytes of workspace";
  if (sums_in_shared) text << ", sums in shared memory";
  return text.str();
}

}  // namespace vimdeploy
