// BidirectionalConv1d on the CPU: compiled once for each instruction set.
//
// A task packs its channels' taps, then goes through the tokens in blocks: x is read once, with a halo of W - 1 tokens on
// either side, and convolved for every direction. A reversed direction is the same sum over the halo's other end.

#include "scan/conv1d.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "scan/conv1d_cpu.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include "scan/math-inl.h"
#include "scan/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {
namespace {

// u of kTokens tokens and one vector of channels. Rows of `x`, `weight` and `u` are `row` floats apart; tap w of a token
// is w rows after its x.
template <int kTokens>
HWY_INLINE void convolve(const float* x, const float* weight, const float* bias, int64_t width, int64_t row, float* u) {
  const hn::ScalableTag<float> d;
  using V = hn::VFromD<decltype(d)>;
  V sum[kTokens];
  HWY_UNROLL(4)
  for (int t = 0; t < kTokens; ++t) sum[t] = hn::Load(d, bias);
  for (int64_t w = 0; w < width; ++w) {
    const V tap = hn::Load(d, weight + w * row);
    HWY_UNROLL(4)
    for (int t = 0; t < kTokens; ++t) sum[t] = hn::MulAdd(tap, hn::Load(d, x + (w + t) * row), sum[t]);
  }
  HWY_UNROLL(4)
  for (int t = 0; t < kTokens; ++t) hn::Store(silu(d, sum[t]), d, u + t * row);
}

template <typename T>
void pack_weights(const Conv1dProblem& problem, const Conv1dPlan& plan, const Conv1dTensors& tensors, int64_t channel,
                  int64_t channels, float* slot) {
  const int64_t E = problem.channels, W = problem.width, row = plan.channel_block;
  for (int64_t k = 0; k < problem.directions(); ++k) {
    const T* weight = static_cast<const T*>(tensors.weight) + (k * E + channel) * W;
    float* taps = slot + plan.weight + k * W * row;
    pack_transposed(weight, channels, W, row, 1.0f, taps);
    if (problem.reverse[static_cast<size_t>(k)]) {
      for (int64_t w = 0; w < W / 2; ++w) std::swap_ranges(taps + w * row, taps + (w + 1) * row, taps + (W - 1 - w) * row);
    }
    pack_transposed(static_cast<const T*>(tensors.bias) + k * E + channel, channels, 1, row, 1.0f,
                    slot + plan.bias + k * row);
  }
}

// x of tokens [begin - halo, end + halo), zero outside the sequence.
template <typename T>
void load_tokens(const T* x, int64_t tokens, int64_t stride, int64_t begin, int64_t end, const Conv1dPlan& plan,
                 int64_t channels, float* rows) {
  for (int64_t l = begin - plan.halo; l < end + plan.halo; ++l, rows += plan.channel_block) {
    if (0 <= l && l < tokens) {
      load_row(x + l * stride, channels, rows);
    } else {
      std::fill_n(rows, plan.channel_block, 0.0f);
    }
  }
}

template <typename T>
void run_task(const Conv1dProblem& problem, const Conv1dPlan& plan, const Conv1dTensors& tensors, int64_t task,
              float* slot) {
  const int64_t B = problem.batch, L = problem.tokens, E = problem.channels, W = problem.width;
  const int64_t b = task / plan.channel_blocks;
  const int64_t channel = task % plan.channel_blocks * plan.channel_block;
  const int64_t channels = std::min(plan.channel_block, E - channel), row = plan.channel_block;
  const auto lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<float>()));
  const T* x = static_cast<const T*>(tensors.xz) + b * L * 2 * E + channel;

  pack_weights<T>(problem, plan, tensors, channel, channels, slot);
  for (int64_t begin = 0; begin < L; begin += plan.token_block) {
    const int64_t tokens = std::min(plan.token_block, L - begin);
    load_tokens(x, L, 2 * E, begin, begin + tokens, plan, channels, slot + plan.x);
    for (int64_t k = 0; k < problem.directions(); ++k) {
      const float* first_x = slot + plan.x + (problem.reverse[static_cast<size_t>(k)] ? plan.halo * row : 0);
      for (int64_t c = 0; c < channels; c += lanes) {
        const float* weight = slot + plan.weight + k * W * row + c;
        const float* bias = slot + plan.bias + k * row + c;
        int64_t t = 0;
        for (; t + 4 <= tokens; t += 4) {
          convolve<4>(first_x + t * row + c, weight, bias, W, row, slot + plan.u + t * row + c);
        }
        for (; t < tokens; ++t) {
          convolve<1>(first_x + t * row + c, weight, bias, W, row, slot + plan.u + t * row + c);
        }
      }
      T* u = static_cast<T*>(tensors.u) + ((k * B + b) * L + begin) * E + channel;
      for (int64_t t = 0; t < tokens; ++t) store_row(slot + plan.u + t * row, channels, u + t * E);
    }
  }
}

template <typename T>
void run_tasks(const Conv1dProblem& problem, const Conv1dPlan& plan, const Conv1dTensors& tensors, float* scratch,
               ParallelFor parallel_for) {
  for_each_task(parallel_for, plan.slots, plan.tasks, [&](int64_t slot, int64_t task) {
    run_task<T>(problem, plan, tensors, task, scratch + slot * plan.slot_floats);
  });
}

void run(const Conv1dProblem& problem, const Conv1dPlan& plan, const Conv1dTensors& tensors, void* scratch,
         ParallelFor parallel_for) {
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

const std::vector<Kernel<Conv1dFunction>>& conv1d_kernels() {
  static const auto kernels = kernels_that_run_here<Conv1dFunction>(VIMDEPLOY_KERNELS(run));
  return kernels;
}

}  // namespace vimdeploy
#endif
