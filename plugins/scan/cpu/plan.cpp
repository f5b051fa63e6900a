#include "scan/cpu/plan.h"

#include <algorithm>
#include <sstream>

namespace vimdeploy {
namespace {

// Tokens of a block. Blocks of 32 to 128 were measured equally fast for the scan with 16 states, 64 are 5 % faster with
// one state; the convolution is slower with 64.
constexpr int64_t kScanTokens = 64, kConv1dTokens = 32;

// A tensor (B, L, E) above this has left the caches before it is read again. With non-temporal stores its lines need
// not be fetched before they are overwritten. A whole Vim-Ti took 2 % longer that way at 512 pixels (1.6 MB), 6 % less
// at 768 (3.5 MB), 8 % less at 1248 (9.3 MB) on two cores with 1 MiB of L2 cache each (benchmarks/cpu.md).
constexpr int64_t kStreamedBytes = 2 << 20;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The channel block with the shortest time on all threads; the larger one of two with equal times.
int64_t channel_block_of(int64_t batch, int64_t channels, int64_t threads) {
  const int64_t padded = divide_up(channels, kChannelGrain) * kChannelGrain;
  int64_t best = 0, best_time = 0;
  for (int64_t block = padded; block > 0; block -= kChannelGrain) {
    const int64_t time = divide_up(batch * divide_up(channels, block), threads) * block;
    if (best == 0 || time < best_time) best = block, best_time = time;
  }
  return best;
}

// Places parts one after the other, each at a multiple of the longest vector.
class Layout {
 public:
  int64_t place(int64_t floats) {
    const int64_t begin = end_;
    end_ += divide_up(floats, kChannelGrain) * kChannelGrain;
    return begin;
  }
  int64_t end() const { return end_; }

 private:
  int64_t end_ = 0;
};

// Whether to use non-temporal stores: only for float32, and only if rows consist of whole cache lines.
// Sequences that are computed independently, each with all that is summed in it.
int64_t sequences_of(const Conv1dProblem& problem) { return problem.batch; }
int64_t sequences_of(const SelectiveScanProblem& problem) {
  return problem.is_gated ? problem.batch : problem.batch * problem.directions();
}

template <typename Problem>
bool streams(const Problem& problem) {
  const int64_t floats = problem.batch * problem.tokens * problem.channels;
  return problem.type == ElementType::float32 && problem.channels % kChannelGrain == 0 && 4 * floats > kStreamedBytes;
}

template <typename Plan, typename Problem>
Plan divided(const Problem& problem, int64_t token_block, const CpuFacts& cpu) {
  const int64_t threads = std::max<int64_t>(cpu.threads, 1);
  Plan plan;
  plan.name = problem.name;
  plan.token_block = std::min(token_block, problem.tokens);
  plan.channel_block = channel_block_of(sequences_of(problem), problem.channels, threads);
  plan.channel_blocks = divide_up(problem.channels, plan.channel_block);
  plan.tasks = problem.tokens == 0 ? 0 : sequences_of(problem) * plan.channel_blocks;
  plan.slots = std::min(plan.tasks, threads);
  return plan;
}

template <typename Plan>
void close(const Layout& slot, Plan& plan) {
  plan.slot_floats = slot.end();
  if (plan.slots == 0) return;
  plan.scratch_bytes = static_cast<size_t>(plan.slots * slot.end()) * sizeof(float) + kCacheLine;
}

template <typename Plan>
std::string to_text(const Plan& plan) {
  std::ostringstream text;
  text << plan.tasks << " tasks of " << plan.channel_block << " channels in blocks of " << plan.token_block
       << " tokens, in " << plan.slots << " slots of " << plan.slot_floats * 4 << " bytes";
  return text.str();
}

}  // namespace

Conv1dPlan plan_of(const Conv1dProblem& problem, const CpuFacts& cpu) {
  auto plan = divided<Conv1dPlan>(problem, kConv1dTokens, cpu);
  plan.halo = problem.width - 1;
  plan.streams = streams(problem);
  Layout slot;
  plan.weight = slot.place(problem.directions() * problem.width * plan.channel_block);
  plan.bias = slot.place(problem.directions() * plan.channel_block);
  plan.x = slot.place((plan.token_block + 2 * plan.halo) * kChannelGrain);
  close(slot, plan);
  return plan;
}

SelectiveScanPlan plan_of(const SelectiveScanProblem& problem, const CpuFacts& cpu) {
  auto plan = divided<SelectiveScanPlan>(problem, kScanTokens, cpu);
  const bool is_float32 = problem.type == ElementType::float32, sums = problem.is_gated && problem.directions() > 1;
  plan.sums_in_y = is_float32 && sums;
  plan.streams = streams(problem) && sums;
  const int64_t rows_of_sum = sums && !is_float32 ? problem.tokens : 0;
  Layout slot;
  plan.decay = slot.place(problem.states * plan.channel_block);
  plan.dt_weight = slot.place(problem.rank * plan.channel_block);
  plan.dt_bias = slot.place(plan.channel_block);
  plan.skip = slot.place(plan.channel_block);
  plan.h = slot.place(problem.states * plan.channel_block);
  plan.low_rank = slot.place(divide_up(problem.rank, kRowGroup) * plan.token_block * kRowGroup);
  plan.BC = slot.place(divide_up(problem.states, kRowGroup) * plan.token_block * 2 * kRowGroup);
  plan.dt = slot.place(plan.token_block * kChannelGrain);
  plan.y = slot.place(plan.token_block * kChannelGrain);
  plan.sum = slot.place(rows_of_sum * plan.channel_block);
  close(slot, plan);
  return plan;
}

std::string Conv1dPlan::to_string() const {
  return std::string(name) + ": " + to_text(*this) + (streams ? ", u past the caches" : "");
}

std::string SelectiveScanPlan::to_string() const {
  std::string text = std::string(name) + ": " + to_text(*this);
  if (sums_in_y) text += ", directions summed in y";
  if (slot_floats > sum) text += ", directions summed in the slot";
  return text + (streams ? ", past the caches" : "");
}

}  // namespace vimdeploy
