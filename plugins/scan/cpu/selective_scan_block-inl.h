// The inner loops of selective_scan.cpp, for every instruction set (included once for each): a block of tokens, one
// vector of channels. Lanes are channels, whatever the number of states is. First the step sizes are computed, then the
// states, in groups that stay in registers over the whole block, then sum and gate. Each is a loop of its own: together
// their chains of dependent instructions are longer than what a processor looks ahead (benchmarks/cpu.md). Tensors are
// read and written in place: with AVX-512 a vector is a cache line.

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

// Computes the step sizes of kTokens tokens.
template <int kTokens, typename T>
HWY_INLINE void make_step_sizes(const Task& task, const Block<T>& block, int64_t token) {
  const Tag d;
  const SelectiveScanPlan& plan = task.plan;
  const int64_t R = task.problem.rank;
  const size_t count = block.count;
  V dt[kTokens];
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) dt[t] = hn::Load(d, task.slot + plan.dt_bias + block.c);
  if (R == 0) {
    const Strided<const T> delta{block.delta.at(token), block.delta.stride};
    HWY_UNROLL(8)
    for (int t = 0; t < kTokens; ++t) dt[t] = hn::Add(dt[t], load_as_float(d, delta.at(t), count));
  }
  const float* weight = task.slot + plan.dt_weight + block.c * R;
  const float* low_rank = task.slot + plan.low_rank + token * kRowGroup;
  for (int64_t group = 0; group < R; group += kRowGroup, low_rank += plan.token_block * kRowGroup) {
    const int64_t count_of_group = HWY_MIN(kRowGroup, R - group);
    for (int64_t r = 0; r < count_of_group; ++r, weight += kLanes) {
      const V weight_r = hn::Load(d, weight);
      HWY_UNROLL(8)
      for (int t = 0; t < kTokens; ++t) dt[t] = hn::MulAdd(weight_r, hn::Set(d, low_rank[t * kRowGroup + r]), dt[t]);
    }
  }
  if (task.problem.delta_softplus) softplus(d, dt);
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) hn::Store(dt[t], d, task.slot + plan.dt + (token + t) * kLanes);
}

// Advances states [first, first + kStates) over the tokens of the block: h = exp(dt * A) * h + dt * u * B, y += C * h.
// The first states begin y with D * u; the last ones store it, if it needs neither sum nor gate.
template <int kStates, typename T>
HWY_INLINE void run_states(const Task& task, const Block<T>& block, const Block<T>& next_tokens, int64_t first) {
  const Tag d;
  const SelectiveScanPlan& plan = task.plan;
  const int64_t N = task.problem.states, tokens = block.tokens;
  constexpr int64_t kRow = 2 * kRowGroup;
  const float* B = task.slot + plan.BC + first / kRowGroup * plan.token_block * kRow + first % kRowGroup;
  const float* decay = task.slot + plan.decay + block.c * N + first * kLanes;
  const float* dt_of = task.slot + plan.dt;
  float* y_of = task.slot + plan.y;
  float* states = task.slot + plan.h + block.c * N + first * kLanes;
  const bool is_first = first == 0, is_result = first + kStates == N && !task.problem.is_gated;
  const size_t count = block.count;
  const V skip = hn::Load(d, task.slot + plan.skip + block.c);
  Strided<const T> u = block.u;
  Strided<T> to = block.y;
  Prefetcher<T> prefetcher(task, block, next_tokens);
  V h[kStates];
  HWY_UNROLL(16)
  for (int n = 0; n < kStates; ++n) h[n] = hn::Load(d, states + n * kLanes);
  for (int64_t t = 0; t < tokens; ++t, B += kRow) {
    const V dt = hn::Load(d, dt_of + t * kLanes);
    const V u_t = load_as_float(d, u.first, count);
    const V dt_u = hn::Mul(dt, u_t);
    V y = is_first ? hn::Mul(skip, u_t) : hn::Load(d, y_of + t * kLanes);
    if (is_first) prefetcher.fetch();
    HWY_UNROLL(16)
    for (int n = 0; n < kStates; ++n) {
      const V kept = exp2(d, hn::Mul(dt, hn::Load(d, decay + n * kLanes)));
      h[n] = hn::MulAdd(kept, h[n], hn::Mul(dt_u, hn::Set(d, B[n])));
      y = hn::MulAdd(h[n], hn::Set(d, B[kRowGroup + n]), y);
    }
    if (is_result) {
      store_float(d, y, count, to.first);
    } else {
      hn::Store(y, d, y_of + t * kLanes);
    }
    u.first += u.stride, to.first += to.stride;
  }
  HWY_UNROLL(16)
  for (int n = 0; n < kStates; ++n) hn::Store(h[n], d, states + n * kLanes);
}

// Adds y of kTokens tokens to the sum over the directions; after the last one, stores scale * silu(z) * sum.
template <int kTokens, typename T>
HWY_INLINE void store_sums(const Task& task, const Block<T>& block, int64_t token) {
  const Tag d;
  const size_t count = block.count;
  const Strided<float> sum{block.sum.at(token), block.sum.stride};
  V y[kTokens];
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) y[t] = hn::Load(d, task.slot + task.plan.y + (token + t) * kLanes);
  if (!block.is_first_direction) {
    HWY_UNROLL(8)
    for (int t = 0; t < kTokens; ++t) y[t] = hn::Add(y[t], load_as_float(d, sum.at(t), count));
  }
  if (block.is_last_direction) {
    const Strided<const T> z{block.z.at(token), block.z.stride};
    const Strided<T> to{block.y.at(token), block.y.stride};
    const V scale = hn::Set(d, task.problem.scale);
    HWY_UNROLL(8)
    for (int t = 0; t < kTokens; ++t) {
      const V gate = hn::Mul(scale, silu(d, load_as_float(d, z.at(t), count)));
      store_float(d, hn::Mul(gate, y[t]), count, to.at(t));
    }
    return;
  }
  if constexpr (kIsLine<T>) {
    if (block.streams) {
      HWY_UNROLL(8)
      for (int t = 0; t < kTokens; ++t) hn::Stream(y[t], d, sum.at(t));
      return;
    }
  }
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) store_float(d, y[t], count, sum.at(t));
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

  if (!task.problem.is_gated) return;
  token = 0;
  for (; token + kTokensAtOnce <= block.tokens; token += kTokensAtOnce) store_sums<kTokensAtOnce>(task, block, token);
  for (; token < block.tokens; ++token) store_sums<1>(task, block, token);
}

}  // namespace HWY_NAMESPACE
}  // namespace vimdeploy
HWY_AFTER_NAMESPACE();

#endif  // VIMDEPLOY_SCAN_CPU_SELECTIVE_SCAN_BLOCK_INL_H_
