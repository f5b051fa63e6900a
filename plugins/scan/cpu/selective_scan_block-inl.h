// The inner loops of selective_scan.cpp, for every instruction set (included once for each): a block of tokens, one
// vector of channels. Lanes are channels. First the step sizes are computed from their low rank, then the states, in
// groups that stay in registers over the whole block, then the gate. Tensors are read and written in place: with
// AVX-512 a vector is a cache line, and each line is accessed once.

#if defined(VIMDEPLOY_SCAN_CPU_SELECTIVE_SCAN_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef VIMDEPLOY_SCAN_CPU_SELECTIVE_SCAN_BLOCK_INL_H_
#undef VIMDEPLOY_SCAN_CPU_SELECTIVE_SCAN_BLOCK_INL_H_
#else
#define VIMDEPLOY_SCAN_CPU_SELECTIVE_SCAN_BLOCK_INL_H_
#endif

#include <cstdint>

#include <hwy/highway.h>

#include "scan/cpu/math-inl.h"
#include "scan/cpu/rows-inl.h"
#include "scan/cpu/token_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {

// States that are kept in registers at a time: half of the registers. And tokens whose step sizes are computed side by
// side, so that their multiply-adds are independent.
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86 || HWY_ARCH_ARM_A64
constexpr int kStatesInRegisters = 16, kTokensAtOnce = 8;
#else
constexpr int kStatesInRegisters = 8, kTokensAtOnce = 4;
#endif

// Computes the step sizes of kTokens tokens; begins y with D * u.
template <int kTokens, typename T>
HWY_INLINE void make_step_sizes(const Task& task, const Block<T>& block, int64_t token) {
  const Tag d;
  const SelectiveScanPlan& plan = task.plan;
  const int64_t R = task.problem.rank, low_rank_row = block.low_rank.stride;
  const float* low_rank = block.low_rank.at(token);
  const size_t count = block.count;
  const float* weight = task.slot + plan.dt_weight + block.c * R;
  V dt[kTokens];
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) dt[t] = hn::Load(d, task.slot + plan.dt_bias + block.c);
  if (R == 0) {
    const Strided<const T> delta{block.delta.at(token), block.delta.stride};
    HWY_UNROLL(8)
    for (int t = 0; t < kTokens; ++t) dt[t] = hn::Add(dt[t], load_as_float(d, delta.at(t), count));
  }
  for (int64_t r = 0; r < R; ++r) {
    const V weight_r = hn::Load(d, weight + r * kLanes);
    HWY_UNROLL(8)
    for (int t = 0; t < kTokens; ++t) dt[t] = hn::MulAdd(weight_r, hn::Set(d, low_rank[t * low_rank_row + r]), dt[t]);
  }
  const V skip = hn::Load(d, task.slot + plan.skip + block.c);
  const bool with_softplus = task.problem.delta_softplus != 0;
  const Strided<const T> u{block.u.at(token), block.u.stride};
  float* to_dt = task.slot + plan.dt + token * kLanes;
  float* to_dt_u = task.slot + plan.dt_u + token * kLanes;
  float* to_y = task.slot + plan.y + token * kLanes;
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) {
    const V u_t = load_as_float(d, u.at(t), count);
    if (with_softplus) dt[t] = softplus(d, dt[t]);
    hn::Store(dt[t], d, to_dt + t * kLanes);
    hn::Store(hn::Mul(dt[t], u_t), d, to_dt_u + t * kLanes);
    hn::Store(hn::Mul(skip, u_t), d, to_y + t * kLanes);
  }
}

// Advances states [first, first + kStates) over the tokens of the block: h = exp(dt * A) * h + dt * u * B, y += C * h.
template <int kStates, typename T>
HWY_INLINE void run_states(const Task& task, const Block<T>& block, const Block<T>& next_tokens, int64_t first) {
  const Tag d;
  const SelectiveScanPlan& plan = task.plan;
  const int64_t N = task.problem.states, tokens = block.tokens;
  const int64_t B_row = block.B.stride, C_row = block.C.stride;
  const float* B = block.B.first + first;
  const float* C = block.C.first + first;
  const float* decay = task.slot + plan.decay + block.c * N + first * kLanes;
  const float* dt_of = task.slot + plan.dt;
  const float* dt_u_of = task.slot + plan.dt_u;
  float* y_of = task.slot + plan.y;
  float* states = task.slot + plan.h + block.c * N + first * kLanes;
  Prefetcher<T> prefetcher(task, block, next_tokens);
  V h[kStates];
  HWY_UNROLL(16)
  for (int n = 0; n < kStates; ++n) h[n] = hn::Load(d, states + n * kLanes);
  for (int64_t t = 0; t < tokens; ++t, B += B_row, C += C_row) {
    const V dt = hn::Load(d, dt_of + t * kLanes);
    const V dt_u = hn::Load(d, dt_u_of + t * kLanes);
    V y = hn::Load(d, y_of + t * kLanes);
    if (first == 0) prefetcher.fetch();
    HWY_UNROLL(16)
    for (int n = 0; n < kStates; ++n) {
      const V kept = exp2(d, hn::Mul(dt, hn::Load(d, decay + n * kLanes)));
      h[n] = hn::MulAdd(kept, h[n], hn::Mul(dt_u, hn::Set(d, B[n])));
      y = hn::MulAdd(h[n], hn::Set(d, C[n]), y);
    }
    hn::Store(y, d, y_of + t * kLanes);
  }
  HWY_UNROLL(16)
  for (int n = 0; n < kStates; ++n) hn::Store(h[n], d, states + n * kLanes);
}

// Adds y to the sum over the directions; after the last one, stores scale * silu(z) * sum to the output.
template <typename T>
HWY_INLINE void store_block(const Task& task, const Block<T>& block) {
  const Tag d;
  const float* y = task.slot + task.plan.y;
  const int64_t tokens = block.tokens;
  const size_t count = block.count;
  const bool is_first_direction = block.is_first_direction;
  const Strided<float> sum = block.sum;
  const auto sum_at = [&](int64_t t) HWY_ATTR {
    const V y_t = hn::Load(d, y + t * kLanes);
    return is_first_direction ? y_t : hn::Add(y_t, load_as_float(d, sum.at(t), count));
  };
  if (!block.is_last_direction) {
    if constexpr (kIsLine<T>) {
      if (block.streams) {
        for (int64_t t = 0; t < tokens; ++t) hn::Stream(sum_at(t), d, sum.at(t));
        return;
      }
    }
    for (int64_t t = 0; t < tokens; ++t) store_float(d, sum_at(t), count, sum.at(t));
    return;
  }
  if (!task.problem.is_gated) {
    const Strided<T> to = block.y;
    for (int64_t t = 0; t < tokens; ++t) store_float(d, hn::Load(d, y + t * kLanes), count, to.at(t));
    return;
  }
  const V scale = hn::Set(d, task.problem.scale);
  const Strided<const T> z = block.z;
  const Strided<T> to = block.y;
  for (int64_t t = 0; t < tokens; ++t) {
    const V gate = hn::Mul(scale, silu(d, load_as_float(d, z.at(t), count)));
    store_float(d, hn::Mul(gate, sum_at(t)), count, to.at(t));
  }
}

// `next_tokens` is the task's next block of tokens, or the block itself if it is the last one.
template <typename T>
HWY_INLINE void scan_block(const Task& task, const Block<T>& block, const Block<T>& next_tokens) {
  const int64_t N = task.problem.states;
  int64_t token = 0;
  for (; token + kTokensAtOnce <= block.tokens; token += kTokensAtOnce) {
    make_step_sizes<kTokensAtOnce>(task, block, token);
  }
  for (; token < block.tokens; ++token) make_step_sizes<1>(task, block, token);

  int64_t n = 0;
  for (; n + kStatesInRegisters <= N; n += kStatesInRegisters) {
    run_states<kStatesInRegisters>(task, block, next_tokens, n);
  }
  for (; n + 4 <= N; n += 4) run_states<4>(task, block, next_tokens, n);
  for (; n < N; ++n) run_states<1>(task, block, next_tokens, n);

  store_block(task, block);
}

}  // namespace HWY_NAMESPACE
}  // namespace vimdeploy
HWY_AFTER_NAMESPACE();

#endif  // VIMDEPLOY_SCAN_CPU_SELECTIVE_SCAN_BLOCK_INL_H_
