// BidirectionalConv1d on the CPU: compiled once for each instruction set.
//
// A task packs its channels' taps, then goes through the tokens in blocks: x is read once, with a halo of W - 1 tokens
// on either side, and convolved for every direction. A reversed direction is the same sum over the halo's other end.

#include "scan/conv1d.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "scan/conv1d_cpu.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include "scan/math-inl.h"
#include "scan/rows-inl.h"
#include "scan/task.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {
namespace {

// u of kTokens tokens and one vector of channels. Rows of `x` and `u` are `row` floats apart, those of `weight`
// `weight_row`; tap w of a token is w rows after its x.
template <int kTokens>
HWY_INLINE void convolve(const float* x, const float* weight, int64_t weight_row, const float* bias, int64_t width,
                         int64_t row, float* u) {
  const hn::ScalableTag<float> d;
  using V = hn::VFromD<decltype(d)>;
  V sum[kTokens];
  HWY_UNROLL(4)
  for (int t = 0; t < kTokens; ++t) sum[t] = hn::Load(d, bias);
  for (int64_t w = 0; w < width; ++w) {
    const V tap = hn::Load(d, weight + w * weight_row);
    HWY_UNROLL(4)
    for (int t = 0; t < kTokens; ++t) sum[t] = hn::MulAdd(tap, hn::Load(d, x + (w + t) * row), sum[t]);
  }
  HWY_UNROLL(4)
  for (int t = 0; t < kTokens; ++t) hn::Store(silu(d, sum[t]), d, u + t * row);
}

using Task = TaskOf<Conv1dProblem, Conv1dPlan, Conv1dTensors>;

template <typename T>
void pack_weights(const Task& task) {
  const int64_t E = task.problem.channels, W = task.problem.width, row = task.plan.channel_block;
  for (int64_t k = 0; k < task.problem.directions(); ++k) {
    const T* weight = static_cast<const T*>(task.tensors.weight) + (k * E + task.channel) * W;
    const T* bias = static_cast<const T*>(task.tensors.bias) + k * E + task.channel;
    float* taps = task.slot + task.plan.weight + k * W * row;
    pack_transposed(weight, task.channels, W, row, 1.0f, taps);
    if (task.problem.reverse[static_cast<size_t>(k)]) {
      for (int64_t w = 0; w < W / 2; ++w)
        std::swap_ranges(taps + w * row, taps + (w + 1) * row, taps + (W - 1 - w) * row);
    }
    pack_transposed(bias, task.channels, 1, row, 1.0f, task.slot + task.plan.bias + k * row);
  }
}

// x of channels [first, first + channels) and tokens [begin - halo, end + halo), zero outside the sequence.
template <typename T>
void load_tokens(const Task& task, int64_t begin, int64_t end, int64_t first, int64_t channels) {
  const int64_t L = task.problem.tokens, E = task.problem.channels, halo = task.plan.halo;
  const T* x = static_cast<const T*>(task.tensors.xz) + task.b * L * 2 * E + task.channel + first;
  float* to = task.slot + task.plan.x;
  for (int64_t l = begin - halo; l < end + halo; ++l, to += task.plan.row) {
    if (0 <= l && l < L) {
      load_row(x + l * 2 * E, channels, to);
    } else {
      std::fill_n(to, task.plan.row, 0.0f);
    }
  }
}

// u of direction k, the tokens from `begin` on and channels [first, first + channels), whose x is in the slot.
template <typename T>
void convolve_rows(const Task& task, int64_t k, int64_t begin, int64_t tokens, int64_t first, int64_t channels) {
  const Conv1dPlan& plan = task.plan;
  const int64_t B = task.problem.batch, L = task.problem.tokens, E = task.problem.channels, W = task.problem.width;
  const int64_t row = plan.row, weight_row = plan.channel_block;
  const bool is_reversed = task.problem.reverse[static_cast<size_t>(k)] != 0;
  const float* x = task.slot + plan.x + (is_reversed ? plan.halo * row : 0);
  const float* weight = task.slot + plan.weight + k * W * weight_row + first;
  const float* bias = task.slot + plan.bias + k * weight_row + first;
  float* u = task.slot + plan.u;
  for (int64_t c = 0; c < channels; c += static_cast<int64_t>(hn::Lanes(hn::ScalableTag<float>()))) {
    int64_t t = 0;
    for (; t + 4 <= tokens; t += 4)
      convolve<4>(x + t * row + c, weight + c, weight_row, bias + c, W, row, u + t * row + c);
    for (; t < tokens; ++t) convolve<1>(x + t * row + c, weight + c, weight_row, bias + c, W, row, u + t * row + c);
  }
  T* to = static_cast<T*>(task.tensors.u) + ((k * B + task.b) * L + begin) * E + task.channel + first;
  for (int64_t t = 0; t < tokens; ++t) store_row(u + t * row, channels, to + t * E);
}

template <typename T>
void run_task(const Task& task) {
  const int64_t L = task.problem.tokens;
  pack_weights<T>(task);
  for (int64_t begin = 0; begin < L; begin += task.plan.token_block) {
    const int64_t tokens = std::min(task.plan.token_block, L - begin);
    for (int64_t first = 0; first < task.channels; first += task.plan.row) {
      const int64_t channels = std::min(task.plan.row, task.channels - first);
      load_tokens<T>(task, begin, begin + tokens, first, channels);
      for (int64_t k = 0; k < task.problem.directions(); ++k) {
        convolve_rows<T>(task, k, begin, tokens, first, channels);
      }
    }
  }
}

void run(const Conv1dProblem& problem, const Conv1dPlan& plan, const Conv1dTensors& tensors, void* scratch,
         ParallelFor parallel_for) {
  with_element_type(problem.type, [&](auto element) {
    using T = decltype(element);
    run_tasks(problem, plan, tensors, scratch, parallel_for, [](const Task& task) { run_task<T>(task); });
  });
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
