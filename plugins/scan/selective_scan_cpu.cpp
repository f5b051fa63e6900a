// BidirectionalSelectiveScan on the CPU: compiled once for each instruction set.
//
// Lanes are channels. A task takes its channels through one direction after the other; in a direction it goes through
// the tokens in blocks, in the direction's order. For each block and vector of channels it first makes the step sizes
// from their low rank, then runs the states in groups that stay in registers over the whole block. The last direction
// gates and stores.

#include "scan/selective_scan.h"

#include <algorithm>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "scan/selective_scan_cpu.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include "scan/math-inl.h"
#include "scan/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {
namespace {

using Tag = hn::ScalableTag<float>;
using V = hn::VFromD<Tag>;

// States that stay in registers at a time: half of the registers.
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86 || HWY_ARCH_ARM_A64
constexpr int kStatesInRegisters = 16;
#else
constexpr int kStatesInRegisters = 8;
#endif

// What a task works on: one sequence of the batch, `channels` channels from `channel` on.
struct Task {
  const SelectiveScanProblem& problem;
  const SelectiveScanPlan& plan;
  const SelectiveScanTensors& tensors;
  int64_t b, channel, channels;
  float* slot;
};

// A block of tokens of one direction; its rows of u and y are in the task's slot.
struct TokenBlock {
  int64_t tokens;
  bool is_reversed;
  const float* dt_bc;  // (tokens, R+2N)
};

template <typename T>
void pack_weights(const Task& task, int64_t k, const T* dt_weight) {
  const SelectiveScanPlan& plan = task.plan;
  const int64_t N = task.problem.states, R = task.problem.rank, row = plan.channel_block;
  const int64_t first = k * task.problem.channels + task.channel;
  pack_transposed(task.tensors.A + first * N, task.channels, N, row, kLog2E, task.slot + plan.decay);
  pack_transposed(dt_weight + first * R, task.channels, R, row, 1.0f, task.slot + plan.dt_weight);
  pack_transposed(task.tensors.dt_bias + first, task.channels, 1, row, 1.0f, task.slot + plan.dt_bias);
  pack_transposed(task.tensors.D + first, task.channels, 1, row, 1.0f, task.slot + plan.skip);
}

// The step sizes of kTokens tokens and the vector of channels at c, and D * u added to y.
template <int kTokens>
HWY_INLINE void make_step_sizes(const Task& task, const TokenBlock& block, int64_t c, int64_t token) {
  const Tag d;
  const SelectiveScanPlan& plan = task.plan;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t R = task.problem.rank, dt_bc_row = R + 2 * task.problem.states, row = plan.channel_block;
  const float* low_rank = block.dt_bc + token * dt_bc_row;
  const float* weight = task.slot + plan.dt_weight + c;
  V dt[kTokens];
  HWY_UNROLL(4)
  for (int t = 0; t < kTokens; ++t) dt[t] = hn::Load(d, task.slot + plan.dt_bias + c);
  for (int64_t r = 0; r < R; ++r) {
    const V weight_r = hn::Load(d, weight + r * row);
    HWY_UNROLL(4)
    for (int t = 0; t < kTokens; ++t) dt[t] = hn::MulAdd(weight_r, hn::Set(d, low_rank[t * dt_bc_row + r]), dt[t]);
  }
  const V skip = hn::Load(d, task.slot + plan.skip + c);
  HWY_UNROLL(4)
  for (int t = 0; t < kTokens; ++t) {
    const V u = hn::Load(d, task.slot + plan.u + (token + t) * row + c);
    float* y = task.slot + plan.y + (token + t) * row + c;
    dt[t] = softplus(d, dt[t]);
    hn::Store(dt[t], d, task.slot + plan.dt + (token + t) * lanes);
    hn::Store(hn::Mul(dt[t], u), d, task.slot + plan.dt_u + (token + t) * lanes);
    hn::Store(hn::MulAdd(skip, u, hn::Load(d, y)), d, y);
  }
}

// States [first, first + kStates) of the vector of channels at c, through all tokens of the block:
// h = exp(dt * A) * h + dt * u * B and y += C * h.
template <int kStates>
HWY_INLINE void run_states(const Task& task, const TokenBlock& block, int64_t c, int64_t first) {
  const Tag d;
  const SelectiveScanPlan& plan = task.plan;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t N = task.problem.states, R = task.problem.rank, row = plan.channel_block;
  const float* decay = task.slot + plan.decay + first * row + c;
  float* states = task.slot + plan.h + first * row + c;
  const int64_t step = block.is_reversed ? -1 : 1;
  int64_t token = block.is_reversed ? block.tokens - 1 : 0;
  V h[kStates];
  HWY_UNROLL(16)
  for (int n = 0; n < kStates; ++n) h[n] = hn::Load(d, states + n * row);
  for (int64_t i = 0; i < block.tokens; ++i, token += step) {
    const V dt = hn::Load(d, task.slot + plan.dt + token * lanes);
    const V dt_u = hn::Load(d, task.slot + plan.dt_u + token * lanes);
    const float* B = block.dt_bc + token * (R + 2 * N) + R + first;
    const float* C = B + N;
    float* y = task.slot + plan.y + token * row + c;
    V sum = hn::Load(d, y);
    HWY_UNROLL(16)
    for (int n = 0; n < kStates; ++n) {
      const V kept = exp2(d, hn::Mul(dt, hn::Load(d, decay + n * row)));
      h[n] = hn::MulAdd(kept, h[n], hn::Mul(dt_u, hn::Set(d, B[n])));
      sum = hn::MulAdd(h[n], hn::Set(d, C[n]), sum);
    }
    hn::Store(sum, d, y);
  }
  HWY_UNROLL(16)
  for (int n = 0; n < kStates; ++n) hn::Store(h[n], d, states + n * row);
}

void scan_block(const TokenBlock& block, const Task& task) {
  const int64_t N = task.problem.states;
  const auto lanes = static_cast<int64_t>(hn::Lanes(Tag()));
  for (int64_t c = 0; c < task.channels; c += lanes) {
    int64_t token = 0;
    for (; token + 4 <= block.tokens; token += 4) make_step_sizes<4>(task, block, c, token);
    for (; token < block.tokens; ++token) make_step_sizes<1>(task, block, c, token);

    int64_t n = 0;
    for (; n + kStatesInRegisters <= N; n += kStatesInRegisters) run_states<kStatesInRegisters>(task, block, c, n);
    for (; n + 4 <= N; n += 4) run_states<4>(task, block, c, n);
    for (; n < N; ++n) run_states<1>(task, block, c, n);
  }
}

// dt, B and C of `count` elements from `from` on as float32: in place where they are.
template <typename T>
const float* floats_of(const T* from, int64_t count, float* scratch) {
  if constexpr (std::is_same_v<T, float>) {
    return from;
  } else {
    load_row(from, count, scratch);
    return scratch;
  }
}

// y = scale * silu(z) * y.
void gate_row(const float* z, float scale, int64_t channels, float* y) {
  const Tag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t c = 0; c < channels; c += lanes) {
    const V factor = hn::Mul(hn::Set(d, scale), silu(d, hn::Load(d, z + c)));
    hn::Store(hn::Mul(factor, hn::Load(d, y + c)), d, y + c);
  }
}

template <typename T>
void run_direction(const Task& task, int64_t k) {
  const SelectiveScanProblem& problem = task.problem;
  const SelectiveScanPlan& plan = task.plan;
  const int64_t B = problem.batch, L = problem.tokens, E = problem.channels, N = problem.states, R = problem.rank;
  const int64_t row = plan.channel_block, dt_bc_row = R + 2 * N;
  const bool is_reversed = problem.reverse[static_cast<size_t>(k)] != 0;
  const bool is_first = k == 0, is_last = k + 1 == problem.directions();
  const T* all_u = static_cast<const T*>(task.tensors.u) + (k * B + task.b) * L * E + task.channel;
  const T* all_z = static_cast<const T*>(task.tensors.xz) + task.b * L * 2 * E + E + task.channel;
  const T* all_dt_bc = static_cast<const T*>(task.tensors.dt_bc) + (k * B + task.b) * L * dt_bc_row;
  T* all_y = static_cast<T*>(task.tensors.y) + task.b * L * E + task.channel;
  float* all_sums = plan.sums_in_y ? reinterpret_cast<float*>(all_y) : task.slot + plan.sum;
  const int64_t sum_row = plan.sums_in_y ? E : row;
  float* u = task.slot + plan.u;
  float* z = u;
  float* y = task.slot + plan.y;

  pack_weights(task, k, static_cast<const T*>(task.tensors.dt_weight));
  std::fill_n(task.slot + plan.h, N * row, 0.0f);
  const int64_t blocks = (L + plan.token_block - 1) / plan.token_block;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t begin = (is_reversed ? blocks - 1 - i : i) * plan.token_block;
    const int64_t tokens = std::min(plan.token_block, L - begin);
    float* sums = all_sums + begin * sum_row;

    for (int64_t t = 0; t < tokens; ++t) load_row(all_u + (begin + t) * E, task.channels, u + t * row);
    if (is_first) std::fill_n(y, tokens * row, 0.0f);
    for (int64_t t = 0; t < tokens && !is_first; ++t) load_row(sums + t * sum_row, task.channels, y + t * row);
    const float* dt_bc = floats_of(all_dt_bc + begin * dt_bc_row, tokens * dt_bc_row, task.slot + plan.dt_bc);

    scan_block({tokens, is_reversed, dt_bc}, task);

    for (int64_t t = 0; t < tokens; ++t) {
      if (is_last) {
        load_row(all_z + (begin + t) * 2 * E, task.channels, z + t * row);
        gate_row(z + t * row, problem.scale, task.channels, y + t * row);
        store_row(y + t * row, task.channels, all_y + (begin + t) * E);
      } else {
        store_row(y + t * row, task.channels, sums + t * sum_row);
      }
    }
  }
}

template <typename T>
void run_tasks(const SelectiveScanProblem& problem, const SelectiveScanPlan& plan, const SelectiveScanTensors& tensors,
               float* scratch, ParallelFor parallel_for) {
  for_each_task(parallel_for, plan.slots, plan.tasks, [&](int64_t slot, int64_t index) {
    const int64_t channel = index % plan.channel_blocks * plan.channel_block;
    const Task task{problem,
                    plan,
                    tensors,
                    index / plan.channel_blocks,
                    channel,
                    std::min(plan.channel_block, problem.channels - channel),
                    scratch + slot * plan.slot_floats};
    for (int64_t k = 0; k < problem.directions(); ++k) run_direction<T>(task, k);
  });
}

void run(const SelectiveScanProblem& problem, const SelectiveScanPlan& plan, const SelectiveScanTensors& tensors,
         void* scratch, ParallelFor parallel_for) {
  float* aligned = aligned_scratch(scratch);
  switch (problem.type) {
    case ElementType::float32:
      return run_tasks<float>(problem, plan, tensors, aligned, parallel_for);
    case ElementType::float16:
      return run_tasks<Float16>(problem, plan, tensors, aligned, parallel_for);
    case ElementType::bfloat16:
      return run_tasks<BFloat16>(problem, plan, tensors, aligned, parallel_for);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace vimdeploy
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vimdeploy {

const std::vector<Kernel<SelectiveScanFunction>>& selective_scan_kernels() {
  static const auto kernels = kernels_that_run_here<SelectiveScanFunction>(VIMDEPLOY_KERNELS(run));
  return kernels;
}

}  // namespace vimdeploy
#endif
