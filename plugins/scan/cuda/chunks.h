// The text of the scan's CUDA kernels, third part, for tokens cut into chunks: what every chunk does to its states, and
// the states carried across the chunks. `Team` as in output.h.

#pragma once

#include "scan/cuda/walk.h"

namespace vimdeploy::cuda {

template <typename T>
struct SummaryRegisters {
  Walk<T> walk;
  float dt_sum;
};

template <typename T>
VIMDEPLOY_HD int64_t summary_blocks(const ScanArguments<T>& a) {
  return static_cast<int64_t>(a.items) * a.batch * (a.chunks - 1) * a.channel_tiles;
}

// The end state of one item's chunk that begins with states of zero, and the sum of its step sizes. Nobody needs those
// of the last chunk on the way.
template <typename T, typename Team>
VIMDEPLOY_HD void summary_block(Team& team, const ScanArguments<T>& a, unsigned index, float* shared) {
  const unsigned steps = static_cast<unsigned>(a.chunks - 1);
  const int item = static_cast<int>(index / a.channel_tiles / steps / a.batch);
  const int on_the_way = static_cast<int>(index / a.channel_tiles % steps);
  const Area area(a, index / a.channel_tiles / steps % a.batch,
                  a.is_reversed(item) ? a.chunks - 1 - on_the_way : on_the_way,
                  static_cast<int>(index % a.channel_tiles));
  const GroupMemory memory(shared_layout(1, a.rank, 0), shared, 0, a.rank);

  team.each([&](int thread, SummaryRegisters<T>& r) {
    r.walk.enter(a, area, item, thread, memory);
    r.dt_sum = 0.0f;
  });
  for (int step = 0; step < area.tiles; ++step) {
    team.each([&](int, SummaryRegisters<T>& r) {
      float y[kTokenTile];  // nobody reads it: compilers leave C out
      r.dt_sum += r.walk.advance(a, area, step, y);
    });
  }
  team.each([&](int thread, SummaryRegisters<T>& r) {
    const int e = area.channel + thread;
    if (e >= a.channels) return;
    const auto chunk_of = [&](int sequence) {
      return (static_cast<int64_t>(sequence) * a.batch + area.b) * a.chunks + area.chunk;
    };
    float* states = a.chunk_states + chunk_of(item) * kStateGroup * a.channels + e;
    VIMDEPLOY_UNROLL
    for (int n = 0; n < kStateGroup; ++n) states[static_cast<int64_t>(n) * a.channels] = r.walk.h[n];
    if (item < a.directions) a.chunk_dt[chunk_of(item) * a.channels + e] = r.dt_sum;
  });
}

template <typename T>
VIMDEPLOY_HD int64_t carry_threads(const ScanArguments<T>& a) {
  return static_cast<int64_t>(a.items) * a.batch * kStateGroup * a.channels;
}

// One state of one channel through all chunks: the end states become those that each chunk begins with.
template <typename T>
VIMDEPLOY_HD void carry_thread(const ScanArguments<T>& a, int64_t index) {
  constexpr int kAhead = 8;  // chunks that are loaded before the chain of their states begins
  const int e = static_cast<int>(index % a.channels), n = static_cast<int>(index / a.channels % kStateGroup);
  const int64_t sequence = index / a.channels / kStateGroup;  // item * batch + b
  const int item = static_cast<int>(sequence / a.batch), first = item / a.directions * kStateGroup;
  const int k = item % a.directions;
  const int state = first + n < a.states ? first + n : a.states - 1;
  const float decay = a.decay_of(static_cast<int64_t>(k) * a.channels + e, state);
  const float* dt = a.chunk_dt + (static_cast<int64_t>(k) * a.batch + sequence % a.batch) * a.chunks * a.channels + e;
  float* states = a.chunk_states + (sequence * a.chunks * kStateGroup + n) * a.channels + e;
  const auto chunk_at = [&](int step) {
    return static_cast<int64_t>(a.is_reversed(item) ? a.chunks - 1 - step : step);
  };
  const int64_t row = static_cast<int64_t>(kStateGroup) * a.channels;

  float h = 0.0f;
  for (int begin = 0; begin < a.chunks; begin += kAhead) {
    float end[kAhead], dt_sum[kAhead];
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      const bool is_needed = begin + i < a.chunks - 1;
      end[i] = is_needed ? states[chunk_at(begin + i) * row] : 0.0f;
      dt_sum[i] = is_needed ? dt[chunk_at(begin + i) * a.channels] : 0.0f;
    }
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      if (begin + i >= a.chunks) continue;
      states[chunk_at(begin + i) * row] = h;
      h = exp2_special(decay * dt_sum[i]) * h + end[i];
    }
  }
}

}  // namespace vimdeploy::cuda
