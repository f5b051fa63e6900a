// BidirectionalSelectiveScan on the CPU: compiled once for each instruction set.
//
// A task takes its channels through one direction after the other; in a direction it goes through the tokens in blocks,
// in the direction's order, and through a block's channels in rows that fit the first-level cache: rows are loaded to
// the slot, scanned there (selective_scan_block-inl.h) and stored. The last direction gates.

#include "scan/selective_scan.h"

#include <algorithm>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "scan/selective_scan_cpu.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include "scan/math-inl.h"
#include "scan/rows-inl.h"
#include "scan/selective_scan_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {
namespace {

// Weights lie vector by vector: those of the vector of channels at c begin at c times their number per channel.
template <typename T>
void pack_weights(const Task& task, int64_t k, const T* dt_weight) {
  const SelectiveScanPlan& plan = task.plan;
  const int64_t N = task.problem.states, R = task.problem.rank;
  for (int64_t c = 0; c < task.channels; c += kLanes) {
    const int64_t channels = std::min(kLanes, task.channels - c);
    const int64_t first = k * task.problem.channels + task.channel + c;
    pack_transposed(task.tensors.A + first * N, channels, N, kLanes, kLog2E, task.slot + plan.decay + c * N);
    pack_transposed(dt_weight + first * R, channels, R, kLanes, 1.0f, task.slot + plan.dt_weight + c * R);
    pack_transposed(task.tensors.dt_bias + first, channels, 1, kLanes, 1.0f, task.slot + plan.dt_bias + c);
    pack_transposed(task.tensors.D + first, channels, 1, kLanes, 1.0f, task.slot + plan.skip + c);
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
  for (int64_t c = 0; c < channels; c += kLanes) {
    const V factor = hn::Mul(hn::Set(d, scale), silu(d, hn::Load(d, z + c)));
    hn::Store(hn::Mul(factor, hn::Load(d, y + c)), d, y + c);
  }
}

// Where a block's sums over the directions are between two directions: rows of y itself, or of the slot.
struct Sums {
  float* first;
  int64_t stride;  // floats from a token to the next
};

Sums sums_of(const Task& task, const Block& block, int64_t token) {
  const SelectiveScanPlan& plan = task.plan;
  const int64_t L = task.problem.tokens, E = task.problem.channels;
  if (!plan.sums_in_y) return {task.slot + plan.sum + token * plan.channel_block + block.first, plan.channel_block};
  return {static_cast<float*>(task.tensors.y) + (task.b * L + token) * E + task.channel + block.first, E};
}

// The block's u, and y so far, to the slot. `token` is the first one's place in the sequence.
template <typename T>
void load_rows(const Task& task, const Block& block, int64_t k, int64_t token) {
  const SelectiveScanPlan& plan = task.plan;
  const int64_t B = task.problem.batch, L = task.problem.tokens, E = task.problem.channels;
  const T* u = static_cast<const T*>(task.tensors.u) + ((k * B + task.b) * L + token) * E + task.channel + block.first;
  const Sums sums = sums_of(task, block, token);
  for (int64_t t = 0; t < block.tokens; ++t) {
    load_row(u + t * E, block.channels, task.slot + plan.u + t * plan.row);
    float* y = task.slot + plan.y + t * plan.row;
    if (k == 0) {
      std::fill_n(y, plan.row, 0.0f);
    } else {
      load_row(sums.first + t * sums.stride, block.channels, y);
    }
  }
}

// The block's y from the slot: to the sums, or, gated, to where it belongs.
template <typename T>
void store_rows(const Task& task, const Block& block, int64_t k, int64_t token) {
  const SelectiveScanPlan& plan = task.plan;
  const int64_t L = task.problem.tokens, E = task.problem.channels;
  const int64_t at = task.b * L + token, channel = task.channel + block.first;
  if (k + 1 < task.problem.directions()) {
    const Sums sums = sums_of(task, block, token);
    for (int64_t t = 0; t < block.tokens; ++t) {
      store_row(task.slot + plan.y + t * plan.row, block.channels, sums.first + t * sums.stride);
    }
    return;
  }
  const T* z = static_cast<const T*>(task.tensors.xz) + at * 2 * E + E + channel;
  T* to = static_cast<T*>(task.tensors.y) + at * E + channel;
  for (int64_t t = 0; t < block.tokens; ++t) {
    float* y = task.slot + plan.y + t * plan.row;
    float* z_row = task.slot + plan.u + t * plan.row;
    load_row(z + t * 2 * E, block.channels, z_row);
    gate_row(z_row, task.problem.scale, block.channels, y);
    store_row(y, block.channels, to + t * E);
  }
}

// Row `row` of a tensor of U from channel `channel` on. It may lie outside of the tensor, for it is only prefetched.
template <typename U>
Ahead ahead_of(const void* tensor, int64_t row, int64_t row_elements, int64_t channel) {
  constexpr int64_t kBytes = sizeof(U);
  const int64_t offset = (row * row_elements + channel) * kBytes;
  return {reinterpret_cast<uintptr_t>(tensor) + static_cast<uintptr_t>(offset), row_elements * kBytes, kLanes * kBytes};
}

template <typename T>
void run_direction(const Task& task, int64_t k) {
  const SelectiveScanProblem& problem = task.problem;
  const SelectiveScanPlan& plan = task.plan;
  const int64_t B = problem.batch, L = problem.tokens, E = problem.channels, N = problem.states, R = problem.rank;
  const int64_t dt_bc_row = R + 2 * N;
  const bool is_reversed = problem.reverse[static_cast<size_t>(k)] != 0;
  const T* dt_bc = static_cast<const T*>(task.tensors.dt_bc) + (k * B + task.b) * L * dt_bc_row;

  pack_weights(task, k, static_cast<const T*>(task.tensors.dt_weight));
  std::fill_n(task.slot + plan.h, N * plan.channel_block, 0.0f);
  const int64_t blocks = (L + plan.token_block - 1) / plan.token_block;
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t begin = (is_reversed ? blocks - 1 - i : i) * plan.token_block;
    const int64_t tokens = std::min(plan.token_block, L - begin);
    const float* dt_bc_floats = floats_of(dt_bc + begin * dt_bc_row, tokens * dt_bc_row, task.slot + plan.dt_bc);
    for (int64_t first = 0; first < task.channels; first += plan.row) {
      const bool is_last_row = first + plan.row >= task.channels;
      const int64_t next_begin = is_last_row ? begin + (is_reversed ? -plan.token_block : plan.token_block) : begin;
      const int64_t next_first = is_last_row ? 0 : first + plan.row;
      const int64_t next_row = task.b * L + next_begin, next_channel = task.channel + next_first;
      const Block block{
          tokens,
          is_reversed,
          dt_bc_floats,
          first,
          std::min(plan.row, task.channels - first),
          ahead_of<T>(task.tensors.u, k * B * L + next_row, E, next_channel),
          plan.sums_in_y ? ahead_of<float>(task.tensors.y, next_row, E, next_channel)
                         : ahead_of<float>(task.slot + plan.sum, next_begin, plan.channel_block, next_first),
          ahead_of<T>(task.tensors.xz, next_row, 2 * E, E + next_channel),
      };
      load_rows<T>(task, block, k, begin);
      scan_block(task, block);
      store_rows<T>(task, block, k, begin);
    }
  }
}

void run(const SelectiveScanProblem& problem, const SelectiveScanPlan& plan, const SelectiveScanTensors& tensors,
         void* scratch, ParallelFor parallel_for) {
  with_element_type(problem.type, [&](auto element) {
    using T = decltype(element);
    run_tasks(problem, plan, tensors, scratch, parallel_for, [](const Task& task) {
      for (int64_t k = 0; k < task.problem.directions(); ++k) run_direction<T>(task, k);
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
