// All three scans on the CPU: compiled once for each instruction set.
//
// A task computes its channels one direction after the other; a direction, in its order, one block of tokens after the
// other; a block, one vector of channels at a time (selective_scan_block-inl.h). The directions are summed in y itself,
// or in the slot if T is narrower than float32. The last direction applies the gate. Without sum and gate, a direction
// is a group and a task of its own.
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
void pack_weights(const Task& task, int64_t k, const T* delta_weight) {
  const SelectiveScanPlan& plan = task.plan;
  const int64_t N = task.problem.states, R = task.problem.rank;
  for (int64_t c = 0; c < task.channels; c += kLanes) {
    const int64_t channels = std::min(kLanes, task.channels - c);
    const int64_t first = k * task.problem.channels + task.channel + c;
    pack_vector(task.tensors.A + first * N, channels, N, kLog2E, task.slot + plan.decay + c * N);
    pack_vector(delta_weight + first * R, channels, R, 1.0f, task.slot + plan.dt_weight + c * R);
    pack_vector(task.tensors.delta_bias + first, channels, 1, 1.0f, task.slot + plan.dt_bias + c);
    pack_vector(task.tensors.D + first, channels, 1, 1.0f, task.slot + plan.skip + c);
  }
}

// A direction, and when it is computed among those that are summed.
struct Direction {
  int64_t k;
  bool is_first, is_last;
};

// The tokens of a block: block i in the order of the scan.
struct Place {
  int64_t k, b;
  bool is_first_direction, is_last_direction;
  int64_t begin, tokens;  // of the sequence
  int64_t first, step;    // in the order of the scan: the first token, and 1 or -1

  Place(const Task& task, int64_t b_, Direction direction, int64_t i)
      : k(direction.k), b(b_), is_first_direction(direction.is_first), is_last_direction(direction.is_last) {
    const int64_t L = task.problem.tokens, block = task.plan.token_block, blocks = (L + block - 1) / block;
    const bool is_reversed = task.problem.reverse[static_cast<size_t>(k)] != 0;
    begin = (is_reversed ? blocks - 1 - i : i) * block;
    tokens = std::min(block, L - begin);
    first = is_reversed ? begin + tokens - 1 : begin;
    step = is_reversed ? -1 : 1;
  }
};

// The block of tokens at a place, and channel c of the task.
template <typename T>
Block<T> block_of(const Task& task, const Place& place, int64_t c) {
  const SelectiveScanProblem& problem = task.problem;
  const SelectiveScanPlan& plan = task.plan;
  const SelectiveScanTensors& tensors = task.tensors;
  const int64_t channel = task.channel + c;
  const auto vectors_of = [&](const auto& rows) {
    return strided(rows.template at<T>(place.k, place.b, place.first) + channel, place.step * rows.token);
  };
  Block<T> block;
  block.tokens = place.tokens;
  block.is_first_direction = place.is_first_direction;
  block.is_last_direction = place.is_last_direction;
  block.streams = kIsLine<T> && plan.streams && is_line_aligned(tensors.y.data);
  block.c = c;
  block.count = static_cast<size_t>(std::min(kLanes, task.channels - c));
  block.u = vectors_of(tensors.u);
  block.y = vectors_of(tensors.y);
  block.z = problem.is_gated ? vectors_of(tensors.z) : block.u;
  block.delta = problem.rank == 0 ? vectors_of(tensors.delta) : block.u;
  if (plan.sums_in_y) {
    block.sum = {tensors.y.at<float>(place.k, place.b, place.first) + channel, place.step * tensors.y.token};
  } else {
    block.sum = {task.slot + plan.sum + place.first * plan.channel_block + c, place.step * plan.channel_block};
  }
  return block;
}

// Packs rows of `elements` elements in groups of kRowGroup: (groups, token_block, distance), in the order of the scan.
template <typename T>
void pack_rows(const Task& task, const Rows<const void>& rows, const Place& place, int64_t elements, int64_t distance,
               float* to) {
  for (int64_t i = 0; i < elements; i += kRowGroup, to += task.plan.token_block * distance) {
    const T* from = rows.at<T>(place.k, place.b, place.first) + i;
    const int64_t count = std::min(kRowGroup, elements - i);
    for (int64_t t = 0; t < place.tokens; ++t) load_row(from + t * place.step * rows.token, count, to + t * distance);
  }
}

void store_last_state(const Task& task, int64_t k, int64_t b) {
  const int64_t N = task.problem.states, K = task.problem.directions(), E = task.problem.channels;
  float* to = task.tensors.last_state + ((b * K + k) * E + task.channel) * N;
  const float* h = task.slot + task.plan.h;
  for (int64_t e = 0; e < task.channels; ++e) {
    for (int64_t n = 0; n < N; ++n) to[e * N + n] = h[e / kLanes * kLanes * N + n * kLanes + e % kLanes];
  }
}

template <typename T>
void run_direction(const Task& task, int64_t b, Direction direction) {
  const SelectiveScanProblem& problem = task.problem;
  const SelectiveScanPlan& plan = task.plan;
  const int64_t k = direction.k;

  pack_weights(task, k, static_cast<const T*>(task.tensors.delta_weight));
  std::fill_n(task.slot + plan.h, problem.states * plan.channel_block, 0.0f);

  const int64_t blocks = (problem.tokens + plan.token_block - 1) / plan.token_block;
  for (int64_t i = 0; i < blocks; ++i) {
    const Place place(task, b, direction, i), next(task, b, direction, std::min(i + 1, blocks - 1));
    pack_rows<T>(task, task.tensors.delta, place, problem.rank, kRowGroup, task.slot + plan.low_rank);
    pack_rows<T>(task, task.tensors.B, place, problem.states, 2 * kRowGroup, task.slot + plan.BC);
    pack_rows<T>(task, task.tensors.C, place, problem.states, 2 * kRowGroup, task.slot + plan.BC + kRowGroup);
    const Block<T> next_tokens = block_of<T>(task, next, 0);
    for (int64_t c = 0; c < task.channels; c += kLanes) scan_block(task, block_of<T>(task, place, c), next_tokens);
  }
  if (plan.streams) hwy::FlushStream();
  if (task.tensors.last_state) store_last_state(task, k, b);
}

template <typename T>
void run_task(const Task& task) {
  const int64_t K = task.problem.directions();
  if (!task.problem.is_gated) {
    return run_direction<T>(task, task.sequence / K, {task.sequence % K, true, true});
  }
  const bool from_last = K == 2 && task.channel / task.plan.channel_block % 2 != 0;
  for (int64_t i = 0; i < K; ++i) {
    run_direction<T>(task, task.sequence, {from_last ? K - 1 - i : i, i == 0, i + 1 == K});
  }
}

void run(const SelectiveScanProblem& problem, const SelectiveScanPlan& plan, const SelectiveScanTensors& tensors,
         void* scratch, ParallelFor parallel_for) {
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

const std::vector<Kernel<SelectiveScanFunction>>& selective_scan_kernels() {
  static const auto kernels = kernels_that_run_here<SelectiveScanFunction>(VIMDEPLOY_KERNELS(run));
  return kernels;
}

}  // namespace vimdeploy
#endif
