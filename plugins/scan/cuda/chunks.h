// Source of the scan's CUDA kernels, second part, for sequences cut into chunks: the states at the end of every chunk,
// and how they are carried from chunk to chunk. `Team` is explained in output.h.
//
// The end of a chunk is (state_group + 1, kChannelTile) floats, in the workspace or in the shared memory of a cluster's
// block: for every channel of a tile its states, if the chunk begins with states of zero, and the sum of its step
// sizes.

#pragma once

#include "scan/cuda/thread_scan.h"

namespace vimdeploy::cuda {

// The chunk at a step of the scan.
VIMDEPLOY_HD int chunk_at(const ScanArguments& a, int step, bool is_reversed) {
  return is_reversed ? a.chunks - 1 - step : step;
}

// The end of a subscan's first chunk in the workspace; those of the others follow.
VIMDEPLOY_HD float* ends_in_workspace(const ScanArguments& a, int subscan, int64_t b, int channel_tile) {
  return a.ends + ((static_cast<int64_t>(subscan) * a.batch + b) * a.channel_tiles + channel_tile) * a.chunks *
                      end_floats(a.state_group);
}

// A row of the end of a chunk, for the thread's channels.
template <typename Kind>
VIMDEPLOY_HD void load_row(const float* end, int row, int lane, float (&values)[Kind::kChannels]) {
  load(end + row * kChannelTile + lane * Kind::kChannels, values);
}

template <typename Kind>
VIMDEPLOY_HD void store_end(const ThreadScan<Kind>& scan, float* end) {
  float* const first = end + scan.lane * Kind::kChannels;
  VIMDEPLOY_UNROLL
  for (int n = 0; n < Kind::kStates; ++n) {
    float values[Kind::kChannels];
    VIMDEPLOY_UNROLL
    for (int j = 0; j < Kind::kChannels; ++j) values[j] = scan.h[j][n];
    store(values, first + n * kChannelTile);
  }
  store(scan.dt_sum, first + Kind::kStates * kChannelTile);
}

template <typename Kind>
VIMDEPLOY_HD void load_states(ThreadScan<Kind>& scan, const float* end) {
  VIMDEPLOY_UNROLL
  for (int n = 0; n < Kind::kStates; ++n) {
    float values[Kind::kChannels];
    load_row<Kind>(end, n, scan.lane, values);
    VIMDEPLOY_UNROLL
    for (int j = 0; j < Kind::kChannels; ++j) scan.h[j][n] = values[j];
  }
}

// Carries one state of one channel through all chunks: replaces the state at the end of each chunk by the one that the
// chunk begins with. The end of the chunk that is last in the order of the scan is not read. state_at(chunk) and
// dt_at(chunk) are addresses.
template <typename StateAt, typename DtAt>
VIMDEPLOY_HD void carry(const ScanArguments& a, bool is_reversed, float decay, StateAt&& state_at, DtAt&& dt_at) {
  constexpr int kPrefetch = 8;  // chunks to load before the serial part over them begins
  float h = 0.0f;
  for (int begin = 0; begin < a.chunks; begin += kPrefetch) {
    float end[kPrefetch], dt_sum[kPrefetch];
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kPrefetch; ++i) {
      const bool is_needed = begin + i < a.chunks - 1;
      end[i] = is_needed ? *state_at(chunk_at(a, begin + i, is_reversed)) : 0.0f;
      dt_sum[i] = is_needed ? *dt_at(chunk_at(a, begin + i, is_reversed)) : 0.0f;
    }
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kPrefetch; ++i) {
      if (begin + i >= a.chunks) continue;
      *state_at(chunk_at(a, begin + i, is_reversed)) = h;
      h = exp2_special(decay * dt_sum[i]) * h + end[i];
    }
  }
}

template <typename Kind>
struct SummaryRegisters {
  ThreadScan<Kind> scan;
};

VIMDEPLOY_HD int64_t summary_blocks(const ScanArguments& a) {
  return static_cast<int64_t>(a.subscans) * a.batch * (a.chunks - 1) * a.channel_tiles;
}

// The end of one chunk of a subscan. The chunk that is last in the order of the scan is left out: nothing follows it.
template <typename Kind, typename Team>
VIMDEPLOY_HD void summary_block(Team& team, const ScanArguments& a, unsigned index, float* shared) {
  const unsigned steps = static_cast<unsigned>(a.chunks - 1);
  const int subscan = static_cast<int>(index / a.channel_tiles / steps / a.batch);
  const int step_of_chunk = static_cast<int>(index / a.channel_tiles % steps);
  const int channel_tile = static_cast<int>(index % a.channel_tiles);
  const BlockExtent extent(a, index / a.channel_tiles / steps % a.batch,
                           chunk_at(a, step_of_chunk, a.is_reversed(subscan)), channel_tile);
  constexpr int64_t kBytes = sizeof(typename Kind::Element);
  const GroupSharedMemory memory(shared_layout(1, kBytes, a.rank, 0, 0), shared, 0, a, kBytes);

  using Registers = SummaryRegisters<Kind>;
  team.each([&](int thread, Registers& r) {
    r.scan.begin_scan(a, extent, subscan, thread, memory);
    r.scan.begin_walk(a, extent);
  });
  for (int step = 0; step < extent.tiles; ++step) {
    team.each_warp([&](auto& warp) {
      make_step_sizes<Kind>(warp, a, extent, step);
      warp.each([&](int, Registers& r) {
        float y[Kind::kChannels][kTokenTile];  // unused, so compilers drop what C is needed for
        r.scan.advance(a, extent, step, y);
      });
    });
  }
  team.each([&](int, Registers& r) {
    float* ends = ends_in_workspace(a, subscan, extent.b, channel_tile);
    store_end(r.scan, ends + extent.chunk * end_floats(Kind::kStates));
  });
}

VIMDEPLOY_HD int64_t carry_threads(const ScanArguments& a) {
  return static_cast<int64_t>(a.subscans) * a.batch * a.channel_tiles * a.state_group * kChannelTile;
}

// Schedule::three_launches: carries one state of one channel.
VIMDEPLOY_HD void carry_thread(const ScanArguments& a, int64_t index) {
  const int lane = static_cast<int>(index % kChannelTile), n = static_cast<int>(index / kChannelTile % a.state_group);
  const int64_t group = index / kChannelTile / a.state_group;  // (subscan * batch + b) * channel_tiles + channel tile
  const int channel_tile = static_cast<int>(group % a.channel_tiles);
  const int subscan = static_cast<int>(group / a.channel_tiles / a.batch);
  const int e = channel_tile * kChannelTile + lane;
  if (e >= a.channels) return;
  float* ends = ends_in_workspace(a, subscan, group / a.channel_tiles % a.batch, channel_tile) + lane;
  const int64_t stride = end_floats(a.state_group);
  carry(
      a, a.is_reversed(subscan), a.decay_of_state(subscan, e, n),
      [&](int chunk) { return ends + chunk * stride + n * kChannelTile; },
      [&](int chunk) { return ends + chunk * stride + a.state_group * kChannelTile; });
}

// Schedule::two_launches: the states that a chunk begins with, from the ends of all chunks before it; the numbers that
// carry() computes. One chunk at a time: the registers would not hold the states of two.
template <typename Kind>
VIMDEPLOY_HD void combine_ends(const ScanArguments& a, const float* ends, int chunk, ThreadScan<Kind>& scan) {
  const bool is_reversed = scan.reverse_mask != 0;
  const int steps = chunk_at(a, chunk, is_reversed);
  VIMDEPLOY_DO_NOT_UNROLL
  for (int step = 0; step < steps; ++step) {
    const float* end = ends + chunk_at(a, step, is_reversed) * end_floats(Kind::kStates);
    float dt_sum[Kind::kChannels];
    load_row<Kind>(end, Kind::kStates, scan.lane, dt_sum);
    VIMDEPLOY_UNROLL
    for (int n = 0; n < Kind::kStates; ++n) {
      float values[Kind::kChannels];
      load_row<Kind>(end, n, scan.lane, values);
      VIMDEPLOY_UNROLL
      for (int j = 0; j < Kind::kChannels; ++j) {
        scan.h[j][n] = exp2_special(scan.decay[j][n] * dt_sum[j]) * scan.h[j][n] + values[j];
      }
    }
  }
}

}  // namespace vimdeploy::cuda
