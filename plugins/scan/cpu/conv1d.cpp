// Both convolutions on the CPU: compiled once for each instruction set.
//
// A task packs its channels' taps, then computes the tokens in blocks, one vector of channels at a time: x is read
// once, with a halo of W - 1 tokens on either side, and convolved for every direction. A reversed direction is the same
// sum over the other end of the halo. A large u is written by non-temporal stores.

#include "scan/cpu/operators.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "scan/cpu/conv1d.cpp"
#include <hwy/foreach_target.h>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "scan/cpu/math-inl.h"
#include "scan/cpu/rows-inl.h"
#include "scan/cpu/task.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {
namespace {

constexpr int kTokensAtOnce = 8;  // so that their multiply-adds are independent
using Task = TaskOf<Conv1dProblem, Conv1dPlan, Conv1dTensors>;

// Computes u of kTokens tokens and one vector of channels. Tap w of token t is multiplied with vector t + w of x.
template <int kTokens, bool kStreams, typename T>
HWY_INLINE void convolve(const float* x, const float* weight, V bias, int64_t width, bool with_silu, T* u,
                         int64_t u_row, size_t count) {
  const Tag d;
  V sum[kTokens];
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) sum[t] = bias;
  for (int64_t w = 0; w < width; ++w) {
    const V tap = hn::Load(d, weight + w * kLanes);
    HWY_UNROLL(8)
    for (int t = 0; t < kTokens; ++t) sum[t] = hn::MulAdd(tap, hn::Load(d, x + (w + t) * kLanes), sum[t]);
  }
  HWY_UNROLL(8)
  for (int t = 0; t < kTokens; ++t) {
    const V u_t = with_silu ? silu(d, sum[t]) : sum[t];
    if constexpr (kStreams) {
      hn::Stream(u_t, d, u + t * u_row);
    } else {
      store_float(d, u_t, count, u + t * u_row);
    }
  }
}

// Packs the weights vector by vector, those of a reversed direction in the order of the tokens.
template <typename T>
void pack_weights(const Task& task) {
  const int64_t E = task.problem.channels, W = task.problem.width, row = task.plan.channel_block;
  for (int64_t k = 0; k < task.problem.directions(); ++k) {
    const T* weight = static_cast<const T*>(task.tensors.weight) + (k * E + task.channel) * W;
    const T* bias = static_cast<const T*>(task.tensors.bias) + k * E + task.channel;
    for (int64_t c = 0; c < task.channels; c += kLanes) {
      const int64_t channels = std::min(kLanes, task.channels - c);
      float* taps = task.slot + task.plan.weight + (k * row + c) * W;
      pack_vector(weight + c * W, channels, W, 1.0f, taps);
      if (task.problem.reverse[static_cast<size_t>(k)]) {
        for (int64_t w = 0; w < W / 2; ++w)
          std::swap_ranges(taps + w * kLanes, taps + (w + 1) * kLanes, taps + (W - 1 - w) * kLanes);
      }
      pack_vector(bias + c, channels, 1, 1.0f, task.slot + task.plan.bias + k * row + c);
    }
  }
}

// Loads x of the vector of channels at c and of tokens [begin - halo, end + halo), zero outside the sequence.
template <typename T>
void load_x(const Task& task, int64_t begin, int64_t end, int64_t c, size_t count) {
  const Tag d;
  const int64_t L = task.problem.tokens, row = task.problem.row, halo = task.plan.halo;
  const T* x = static_cast<const T*>(task.tensors.x) + task.sequence * L * row + task.channel + c;
  float* to = task.slot + task.plan.x;
  for (int64_t l = begin - halo; l < end + halo; ++l, to += kLanes) {
    const bool is_token = 0 <= l && l < L;
    hn::Store(is_token ? load_as_float(d, x + l * row, count) : hn::Zero(d), d, to);
  }
}

// Computes u of direction k, the vector of channels at c and the tokens from `begin` on, whose x is in the slot.
template <bool kStreams, typename T>
void convolve_block(const Task& task, int64_t k, int64_t begin, int64_t tokens, int64_t c, size_t count) {
  const Tag d;
  const Conv1dPlan& plan = task.plan;
  const int64_t B = task.problem.batch, L = task.problem.tokens, E = task.problem.channels, W = task.problem.width;
  const bool is_reversed = task.problem.reverse[static_cast<size_t>(k)] != 0;
  const float* x = task.slot + plan.x + (is_reversed ? plan.halo * kLanes : 0);
  const float* weight = task.slot + plan.weight + (k * plan.channel_block + c) * W;
  const V bias = hn::Load(d, task.slot + plan.bias + k * plan.channel_block + c);
  T* u = static_cast<T*>(task.tensors.u) + ((k * B + task.sequence) * L + begin) * E + task.channel + c;
  const bool with_silu = task.problem.silu != 0;
  int64_t t = 0;
  for (; t + kTokensAtOnce <= tokens; t += kTokensAtOnce) {
    convolve<kTokensAtOnce, kStreams>(x + t * kLanes, weight, bias, W, with_silu, u + t * E, E, count);
  }
  for (; t < tokens; ++t) convolve<1, kStreams>(x + t * kLanes, weight, bias, W, with_silu, u + t * E, E, count);
}

template <bool kStreams, typename T>
void convolve_all(const Task& task) {
  const int64_t L = task.problem.tokens;
  for (int64_t begin = 0; begin < L; begin += task.plan.token_block) {
    const int64_t tokens = std::min(task.plan.token_block, L - begin);
    for (int64_t c = 0; c < task.channels; c += kLanes) {
      const auto count = static_cast<size_t>(std::min(kLanes, task.channels - c));
      load_x<T>(task, begin, begin + tokens, c, count);
      for (int64_t k = 0; k < task.problem.directions(); ++k) {
        convolve_block<kStreams, T>(task, k, begin, tokens, c, count);
      }
    }
  }
}

template <typename T>
void run_task(const Task& task) {
  pack_weights<T>(task);
  if constexpr (kIsLine<T>) {
    if (task.plan.streams && is_line_aligned(task.tensors.u)) {
      convolve_all<true, T>(task);
      hwy::FlushStream();
      return;
    }
  }
  convolve_all<false, T>(task);
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
