// BidirectionalSelectiveScan on the CPU: compiled once for each instruction set.
//
// A task computes its channels one direction after the other; a direction, in its order, one block of tokens after the
// other; a block, one vector of channels at a time (selective_scan_block-inl.h). The directions are summed in y itself,
// or in the slot if T is narrower than float32. The last direction applies the gate.
//
// With two directions, tasks of neighbouring channels begin with different ones. Their parts of a row of y are
// adjacent, so two cores seldom write next to each other (benchmarks/cpu.md). A sum of two is the same in either order.
// More directions are always summed in their own order, because a result must not depend on how the channels are
// divided.

#include "scan/cpu/operators.h"

#include <algorithm>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "scan/cpu/selective_scan.cpp"
#include <hwy/foreach_target.h>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "scan/cpu/math-inl.h"
#include "scan/cpu/rows-inl.h"
#include "scan/cpu/selective_scan_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {
namespace {

// Weights are packed vector by vector: those of the vector of channels at c begin at c * (weights of a channel).
template <typename T>
void pack_weights(const Task& task, int64_t k, const T* dt_weight) {
  const SelectiveScanPlan& plan = task.plan;
  const int64_t N = task.problem.states, R = task.problem.rank;
  for (int64_t c = 0; c < task.channels; c += kLanes) {
    const int64_t channels = std::min(kLanes, task.channels - c);
    const int64_t first = k * task.problem.channels + task.channel + c;
    pack_vector(task.tensors.A + first * N, channels, N, kLog2E, task.slot + plan.decay + c * N);
    pack_vector(dt_weight + first * R, channels, R, 1.0f, task.slot + plan.dt_weight + c * R);
    pack_vector(task.tensors.dt_bias + first, channels, 1, 1.0f, task.slot + plan.dt_bias + c);
    pack_vector(task.tensors.D + first, channels, 1, 1.0f, task.slot + plan.skip + c);
  }
}

// A direction, and its place in the task's order.
struct Direction {
  int64_t k;
  bool is_first, is_last;
};

// The block of a direction that begins at token `begin` of the sequence and channel c of the task.
template <typename T>
Block<T> block_of(const Task& task, Direction direction, int64_t begin, int64_t c) {
  const SelectiveScanProblem& problem = task.problem;
  const SelectiveScanPlan& plan = task.plan;
  const SelectiveScanTensors& tensors = task.tensors;
  const int64_t L = problem.tokens, E = problem.channels, dt_bc_row = problem.rank + 2 * problem.states;
  const int64_t tokens = std::min(plan.token_block, L - begin), channel = task.channel + c;
  const bool is_reversed = problem.reverse[static_cast<size_t>(direction.k)] != 0;
  const int64_t first = is_reversed ? begin + tokens - 1 : begin, step = is_reversed ? -1 : 1;
  const int64_t token = task.b * L + first, u_token = direction.k * problem.batch * L + token;
  Block<T> block;
  block.tokens = tokens;
  block.is_first_direction = direction.is_first;
  block.is_last_direction = direction.is_last;
  block.streams = kIsLine<T> && plan.streams && is_line_aligned(tensors.y);
  block.c = c;
  block.count = static_cast<size_t>(std::min(kLanes, task.channels - c));
  block.u = {static_cast<const T*>(tensors.u) + u_token * E + channel, step * E};
  block.z = {static_cast<const T*>(tensors.xz) + token * 2 * E + E + channel, step * 2 * E};
  block.y = {static_cast<T*>(tensors.y) + token * E + channel, step * E};
  if constexpr (std::is_same_v<T, float>) {
    block.dt_bc = {static_cast<const float*>(tensors.dt_bc) + u_token * dt_bc_row, step * dt_bc_row};
  } else {
    block.dt_bc = {task.slot + plan.dt_bc + (first - begin) * dt_bc_row, step * dt_bc_row};
  }
  if (plan.sums_in_y) {
    block.sum = {static_cast<float*>(tensors.y) + token * E + channel, step * E};
  } else {
    block.sum = {task.slot + plan.sum + first * plan.channel_block + c, step * plan.channel_block};
  }
  return block;
}

template <typename T>
void run_direction(const Task& task, Direction direction) {
  const SelectiveScanProblem& problem = task.problem;
  const SelectiveScanPlan& plan = task.plan;
  const int64_t k = direction.k, dt_bc_row = problem.rank + 2 * problem.states;
  const T* dt_bc =
      static_cast<const T*>(task.tensors.dt_bc) + (k * problem.batch + task.b) * problem.tokens * dt_bc_row;

  pack_weights(task, k, static_cast<const T*>(task.tensors.dt_weight));
  std::fill_n(task.slot + plan.h, problem.states * plan.channel_block, 0.0f);

  const int64_t blocks = (problem.tokens + plan.token_block - 1) / plan.token_block;
  const bool is_reversed = problem.reverse[static_cast<size_t>(k)] != 0;
  const auto begin_of = [&](int64_t i) { return (is_reversed ? blocks - 1 - i : i) * plan.token_block; };
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t begin = begin_of(i);
    const Block<T> next_tokens = block_of<T>(task, direction, i + 1 < blocks ? begin_of(i + 1) : begin, 0);
    if constexpr (!std::is_same_v<T, float>) {
      const int64_t tokens = std::min(plan.token_block, problem.tokens - begin);
      load_row(dt_bc + begin * dt_bc_row, tokens * dt_bc_row, task.slot + plan.dt_bc);
    }
    for (int64_t c = 0; c < task.channels; c += kLanes)
      scan_block(task, block_of<T>(task, direction, begin, c), next_tokens);
  }
  if (plan.streams) hwy::FlushStream();
}

void run(const SelectiveScanProblem& problem, const SelectiveScanPlan& plan, const SelectiveScanTensors& tensors,
         void* scratch, ParallelFor parallel_for) {
  with_element_type(problem.type, [&](auto element) {
    using T = decltype(element);
    run_tasks(problem, plan, tensors, scratch, parallel_for, [](const Task& task) {
      const int64_t K = task.problem.directions();
      const bool from_last = K == 2 && task.channel / task.plan.channel_block % 2 != 0;
      for (int64_t i = 0; i < K; ++i) run_direction<T>(task, {from_last ? K - 1 - i : i, i == 0, i + 1 == K});
    });
  });
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
