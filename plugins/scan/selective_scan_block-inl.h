// The heart of selective_scan_cpu.cpp, for every instruction set (included once for each): one block of tokens and a
// row of channels, all in float32 in the slot. Lanes are channels. For each vector of channels it first makes the step
// sizes from their low rank, then runs the states in groups that stay in registers over the whole block.

#if defined(VIMDEPLOY_SCAN_SELECTIVE_SCAN_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef VIMDEPLOY_SCAN_SELECTIVE_SCAN_BLOCK_INL_H_
#undef VIMDEPLOY_SCAN_SELECTIVE_SCAN_BLOCK_INL_H_
#else
#define VIMDEPLOY_SCAN_SELECTIVE_SCAN_BLOCK_INL_H_
#endif

#include <cstdint>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "scan/math-inl.h"
#include "scan/selective_scan.h"
#include "scan/task.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {

using Tag = hn::ScalableTag<float>;
using V = hn::VFromD<Tag>;
constexpr int64_t kLanes =
    static_cast<int64_t>(hn::MaxLanes(Tag()));  // all of them: vectors have one size, see instruction_sets.h

// States that stay in registers at a time: half of the registers.
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86 || HWY_ARCH_ARM_A64
constexpr int kStatesInRegisters = 16;
#else
constexpr int kStatesInRegisters = 8;
#endif

using Task = TaskOf<SelectiveScanProblem, SelectiveScanPlan, SelectiveScanTensors>;

// A row that the next block reads. It is fetched while this block is worked on, for the processor does not guess rows
// that are pages apart: that was 20 % of the time at L = 6085.
struct Ahead {
  uintptr_t address;
  int64_t token_bytes;   // from a token to the next
  int64_t vector_bytes;  // from a vector of channels to the next

  HWY_INLINE void prefetch(int64_t token, int64_t c) const {
    const int64_t bytes = token * token_bytes + c / kLanes * vector_bytes;
    hwy::Prefetch(reinterpret_cast<const char*>(address + static_cast<uintptr_t>(bytes)));
  }
};

// Tokens of one direction and channels [first, first + channels) of the task, whose rows of u and y are in the slot.
struct Block {
  int64_t tokens;
  bool is_reversed;
  const float* dt_bc;  // (tokens, R+2N)
  int64_t first, channels;
  Ahead u, y, z;
};

// The step sizes of kTokens tokens and the vector of channels at c, and D * u added to y.
template <int kTokens>
HWY_INLINE void make_step_sizes(const Task& task, const Block& block, int64_t c, int64_t token) {
  const Tag d;
  const SelectiveScanPlan& plan = task.plan;
  const int64_t R = task.problem.rank, dt_bc_row = R + 2 * task.problem.states, row = plan.row;
  const float* low_rank = block.dt_bc + token * dt_bc_row;
  const float* weight = task.slot + plan.dt_weight + (block.first + c) * R;
  V dt[kTokens];
  HWY_UNROLL(4)
  for (int t = 0; t < kTokens; ++t) dt[t] = hn::Load(d, task.slot + plan.dt_bias + block.first + c);
  for (int64_t r = 0; r < R; ++r) {
    const V weight_r = hn::Load(d, weight + r * kLanes);
    HWY_UNROLL(4)
    for (int t = 0; t < kTokens; ++t) dt[t] = hn::MulAdd(weight_r, hn::Set(d, low_rank[t * dt_bc_row + r]), dt[t]);
  }
  const V skip = hn::Load(d, task.slot + plan.skip + block.first + c);
  HWY_UNROLL(4)
  for (int t = 0; t < kTokens; ++t) {
    const V u = hn::Load(d, task.slot + plan.u + (token + t) * row + c);
    float* y = task.slot + plan.y + (token + t) * row + c;
    dt[t] = softplus(d, dt[t]);
    hn::Store(dt[t], d, task.slot + plan.dt + (token + t) * kLanes);
    hn::Store(hn::Mul(dt[t], u), d, task.slot + plan.dt_u + (token + t) * kLanes);
    hn::Store(hn::MulAdd(skip, u, hn::Load(d, y)), d, y);
  }
}

// States [first, first + kStates) of the vector of channels at c, through all tokens of the block:
// h = exp(dt * A) * h + dt * u * B and y += C * h.
template <int kStates>
HWY_INLINE void run_states(const Task& task, const Block& block, int64_t c, int64_t first) {
  const Tag d;
  const SelectiveScanPlan& plan = task.plan;
  const int64_t N = task.problem.states, R = task.problem.rank, row = plan.row;
  const float* decay = task.slot + plan.decay + (block.first + c) * N + first * kLanes;
  float* states = task.slot + plan.h + (block.first + c) * N + first * kLanes;
  const int64_t step = block.is_reversed ? -1 : 1;
  int64_t token = block.is_reversed ? block.tokens - 1 : 0;
  V h[kStates];
  HWY_UNROLL(16)
  for (int n = 0; n < kStates; ++n) h[n] = hn::Load(d, states + n * kLanes);
  for (int64_t i = 0; i < block.tokens; ++i, token += step) {
    const V dt = hn::Load(d, task.slot + plan.dt + token * kLanes);
    const V dt_u = hn::Load(d, task.slot + plan.dt_u + token * kLanes);
    const float* B = block.dt_bc + token * (R + 2 * N) + R + first;
    const float* C = B + N;
    float* y = task.slot + plan.y + token * row + c;
    V sum = hn::Load(d, y);
    if (first == 0) {
      block.u.prefetch(token, c);
      block.y.prefetch(token, c);
      block.z.prefetch(token, c);
    }
    HWY_UNROLL(16)
    for (int n = 0; n < kStates; ++n) {
      const V kept = exp2(d, hn::Mul(dt, hn::Load(d, decay + n * kLanes)));
      h[n] = hn::MulAdd(kept, h[n], hn::Mul(dt_u, hn::Set(d, B[n])));
      sum = hn::MulAdd(h[n], hn::Set(d, C[n]), sum);
    }
    hn::Store(sum, d, y);
  }
  HWY_UNROLL(16)
  for (int n = 0; n < kStates; ++n) hn::Store(h[n], d, states + n * kLanes);
}

HWY_INLINE void scan_block(const Task& task, const Block& block) {
  const int64_t N = task.problem.states;
  for (int64_t c = 0; c < block.channels; c += kLanes) {
    int64_t token = 0;
    for (; token + 4 <= block.tokens; token += 4) make_step_sizes<4>(task, block, c, token);
    for (; token < block.tokens; ++token) make_step_sizes<1>(task, block, c, token);

    int64_t n = 0;
    for (; n + kStatesInRegisters <= N; n += kStatesInRegisters) run_states<kStatesInRegisters>(task, block, c, n);
    for (; n + 4 <= N; n += 4) run_states<4>(task, block, c, n);
    for (; n < N; ++n) run_states<1>(task, block, c, n);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace vimdeploy
HWY_AFTER_NAMESPACE();

#endif  // VIMDEPLOY_SCAN_SELECTIVE_SCAN_BLOCK_INL_H_
