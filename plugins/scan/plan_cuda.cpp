#include "scan/plan_cuda.h"

#include <algorithm>
#include <limits>
#include <sstream>

#include "scan/cuda/layout.h"

namespace vimdeploy {
namespace {

// The model of time, in clocks. Its numbers are counted or taken from tables, and no GPU has confirmed them.

// From a token to the next of one warp: shared memory, an exponential, two dependent multiply-adds.
constexpr int64_t kTokenLatency = 180;
// Slots that a warp takes of its scheduler for a token: the instructions of Vim's walk.
constexpr int64_t kTokenIssue = 135;
// From a block's start to its first token: two trips to memory, one after the other.
constexpr int64_t kBlockStart = 1500;
// Two launches more, and for each chunk a step of the chain of states.
constexpr int64_t kExtraLaunches = 6000, kCarryStep = 30;
// A chunk's tokens are walked for the end state, without C and y, and again for the outputs.
constexpr int64_t kBothWalksPercent = 180;

// Registers let 16 warps stay on a multiprocessor: 128 for each thread, of 64 Ki.
constexpr int64_t kResidentThreads = 512;
// With 12 warps, three a scheduler, the latency is hidden: more are not worth sums that wait in the workspace.
constexpr int64_t kEnoughThreads = 384;
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

// Blocks of so many threads that the device holds by their registers.
int64_t blocks_at_once(const CudaFacts& device, int64_t threads) {
  return device.multiprocessors * (kResidentThreads / threads);
}

class Planner {
 public:
  Planner(const SelectiveScanProblem& problem, const CudaFacts& device)
      : problem_(problem),
        device_(device),
        items_(cuda::items_of(problem)),
        threads_(cuda::groups_of(items_) * cuda::kChannelTile),
        areas_(problem.batch * divide_up(problem.channels, cuda::kChannelTile)) {}

  SelectiveScanCudaPlan best(Regime regime) const {
    SelectiveScanCudaPlan plan = of(1);
    if (regime == Regime::sequences) return plan;
    const bool is_forced = regime == Regime::chunks;
    const int64_t tiles = divide_up(problem_.tokens, cuda::kTokenTile);
    const int64_t most =
        std::min(tiles, std::max<int64_t>(2, divide_up(kFills * blocks_at_once(device_, threads_), areas_)));
    // 2, 3, 4, 6, 8, 12 ...: few enough to try at every call.
    for (int64_t step = 2; step <= most; step *= 2) {
      for (int64_t chunks : {step, step / 2 * 3}) {
        if (chunks > most) continue;
        const SelectiveScanCudaPlan candidate = of(chunks);
        if (candidate.chunks == 1) continue;
        if ((is_forced && plan.chunks == 1) || clocks(candidate) < clocks(plan)) plan = candidate;
      }
    }
    return plan;
  }

 private:
  SelectiveScanCudaPlan of(int64_t chunks) const {
    SelectiveScanCudaPlan plan;
    plan.channel_tile = cuda::kChannelTile;
    plan.chunk_tokens = divide_up(divide_up(problem_.tokens, chunks), cuda::kTokenTile) * cuda::kTokenTile;
    plan.chunks = divide_up(problem_.tokens, plan.chunk_tokens);

    const int64_t blocks = divide_up(areas_ * plan.chunks, device_.multiprocessors);
    const int64_t wanted = std::min(blocks, kEnoughThreads / threads_);
    plan.sums_in_shared = items_ > 1 && resident(shared_bytes(plan.chunk_tokens)) >= wanted;
    plan.shared_bytes = static_cast<size_t>(shared_bytes(plan.sums_in_shared ? plan.chunk_tokens : 0));

    const bool has_chunks = plan.chunks > 1, has_sums = items_ > 1 && !plan.sums_in_shared;
    const int64_t row = problem_.batch * plan.chunks * problem_.channels;
    plan.chunk_dt = plan.chunk_states + (has_chunks ? aligned(items_ * row * cuda::kStateGroup) : 0);
    plan.sums = plan.chunk_dt + (has_chunks ? aligned(problem_.directions() * row) : 0);
    plan.workspace_bytes = plan.sums + (has_sums ? aligned(problem_.batch * problem_.tokens * problem_.channels) : 0);
    return plan;
  }

  int64_t shared_bytes(int64_t tokens_of_sums) const {
    return cuda::shared_layout(cuda::groups_of(items_), problem_.rank, tokens_of_sums).floats *
           static_cast<int64_t>(sizeof(float));
  }

  // Blocks that stay on a multiprocessor.
  int64_t resident(int64_t shared_bytes) const {
    if (shared_bytes > device_.shared_bytes_per_block) return 0;
    return std::min(kResidentThreads / threads_,
                    device_.shared_bytes_per_multiprocessor / (shared_bytes + kReservedShared));
  }

  int64_t clocks(const SelectiveScanCudaPlan& plan) const {
    const int64_t blocks = areas_ * plan.chunks, passes = divide_up(items_, cuda::kGroups);
    const int64_t at_once = std::max<int64_t>(1, resident(static_cast<int64_t>(plan.shared_bytes)));
    const auto round = [&](int64_t on_one) {
      const int64_t warps = divide_up(on_one * threads_ / 32, 4);  // of each of a multiprocessor's schedulers
      return passes * (kBlockStart + plan.chunk_tokens * std::max(kTokenLatency, kTokenIssue * warps));
    };
    const int64_t wave = at_once * device_.multiprocessors;
    const int64_t rest = divide_up(blocks % wave, device_.multiprocessors);
    const int64_t walk = blocks / wave * round(at_once) + (rest > 0 ? round(rest) : 0);
    if (plan.chunks == 1) return walk;
    return walk * kBothWalksPercent / 100 + kExtraLaunches + kCarryStep * plan.chunks;
  }

  const SelectiveScanProblem& problem_;
  const CudaFacts& device_;
  int64_t items_;
  int64_t threads_;  // of a block of `output`
  int64_t areas_;    // blocks of a chunk
};

// Places in a sequence and in a row are counted in 32 bits, directions' flags in 64.
constexpr int64_t kMostPlaces = std::numeric_limits<int32_t>::max() / 4;
constexpr int64_t kMostDirections = 64;

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
  return check_at_most(kConv1dName, "W (width)", problem.width, kMostPlaces);
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

SelectiveScanCudaPlan cuda_plan_of(const SelectiveScanProblem& problem, const CudaFacts& device, Regime regime) {
  if (problem.batch == 0 || problem.tokens == 0) return {};
  return Planner(problem, device).best(regime);
}

size_t workspace_bound(const SelectiveScanProblem& largest, const CudaFacts& device) {
  // Of B * chunks * E: by the number of chunks of a sequence, and by that of all blocks.
  const int64_t areas = largest.batch * divide_up(largest.channels, cuda::kChannelTile);
  const int64_t blocks = kFills * blocks_at_once(device, cuda::kChannelTile) + 2 * areas;
  const int64_t row = std::min(largest.batch * divide_up(largest.tokens, cuda::kTokenTile) * largest.channels,
                               blocks * cuda::kChannelTile);
  return aligned(cuda::items_of(largest) * row * cuda::kStateGroup) + aligned(largest.directions() * row) +
         aligned(largest.batch * largest.tokens * largest.channels);
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
