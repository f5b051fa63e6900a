// Source of the scan's CUDA kernels, third part, for sequences cut into chunks: the states at the end of every chunk,
// and their propagation from chunk to chunk. `Team` is explained in output.h.

#pragma once

#include "scan/cuda/thread_scan.h"

namespace vimdeploy::cuda {

template <typename Kind>
struct SummaryRegisters {
  ThreadScan<Kind> scan;
};

VIMDEPLOY_HD int64_t summary_blocks(const ScanArguments& a) {
  return static_cast<int64_t>(a.subscans) * a.batch * (a.chunks - 1) * a.channel_tiles;
}

// The states at the end of one chunk of a subscan, if it begins with states of zero, and the sum of its step sizes. The
// chunk that is last in the order of the scan is left out: nothing follows it.
template <typename Kind, typename Team>
VIMDEPLOY_HD void summary_block(Team& team, const ScanArguments& a, unsigned index, float* shared) {
  const unsigned steps = static_cast<unsigned>(a.chunks - 1);
  const int subscan = static_cast<int>(index / a.channel_tiles / steps / a.batch);
  const int chunk_step = static_cast<int>(index / a.channel_tiles % steps);
  const BlockExtent extent(a, index / a.channel_tiles / steps % a.batch,
                           a.is_reversed(subscan) ? a.chunks - 1 - chunk_step : chunk_step,
                           static_cast<int>(index % a.channel_tiles));
  const GroupSharedMemory memory(shared_layout(1, sizeof(typename Kind::Element), a.rank, 0), shared, 0, a,
                                 sizeof(typename Kind::Element));

  using Registers = SummaryRegisters<Kind>;
  team.each_warp([&](auto& warp) {
    warp.each([&](int thread, Registers& r) { r.scan.begin_scan(a, extent, subscan, thread, memory); });
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
  team.each_warp([&](auto& warp) {
    warp.each([&](int thread, Registers& r) {
      if (!extent.template has_channel<Kind>(a, thread)) return;
      const int e = extent.template channel_of<Kind>(a, thread);
      const auto chunk_of = [&](int sequence) {
        return (static_cast<int64_t>(sequence) * a.batch + extent.b) * a.chunks + extent.chunk;
      };
      float* states = a.chunk_states + chunk_of(subscan) * Kind::kStates * a.channels + e;
      VIMDEPLOY_UNROLL
      for (int n = 0; n < Kind::kStates; ++n) {
        float both[Kind::kChannels];
        VIMDEPLOY_UNROLL
        for (int j = 0; j < Kind::kChannels; ++j) both[j] = r.scan.h[j][n];
        store(both, states + static_cast<int64_t>(n) * a.channels);
      }
      if (subscan < a.directions) store(r.scan.dt_sum, a.chunk_dt + chunk_of(subscan) * a.channels + e);
    });
  });
}

VIMDEPLOY_HD int64_t carry_threads(const ScanArguments& a) {
  return static_cast<int64_t>(a.subscans) * a.batch * a.state_group * a.channels;
}

// Carries one state of one channel through all chunks: replaces the state at the end of each chunk by the one that the
// chunk begins with.
VIMDEPLOY_HD void carry_thread(const ScanArguments& a, int64_t index) {
  constexpr int kPrefetch = 8;  // chunks to load before the serial part over them begins
  const int e = static_cast<int>(index % a.channels), n = static_cast<int>(index / a.channels % a.state_group);
  const int64_t sequence = index / a.channels / a.state_group;  // subscan * batch + b
  const int subscan = static_cast<int>(sequence / a.batch), first = subscan / a.directions * a.state_group;
  const int k = subscan % a.directions;
  const int state = first + n < a.states ? first + n : a.states - 1;
  const float decay = a.decay_of(a.A[(static_cast<int64_t>(k) * a.channels + e) * a.states + state]);
  const float* dt = a.chunk_dt + (static_cast<int64_t>(k) * a.batch + sequence % a.batch) * a.chunks * a.channels + e;
  float* states = a.chunk_states + (sequence * a.chunks * a.state_group + n) * a.channels + e;
  const auto chunk_at = [&](int step) {
    return static_cast<int64_t>(a.is_reversed(subscan) ? a.chunks - 1 - step : step);
  };
  const int64_t row = static_cast<int64_t>(a.state_group) * a.channels;

  float h = 0.0f;
  for (int begin = 0; begin < a.chunks; begin += kPrefetch) {
    float end[kPrefetch], dt_sum[kPrefetch];
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kPrefetch; ++i) {
      const bool is_needed = begin + i < a.chunks - 1;
      end[i] = is_needed ? states[chunk_at(begin + i) * row] : 0.0f;
      dt_sum[i] = is_needed ? dt[chunk_at(begin + i) * a.channels] : 0.0f;
    }
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kPrefetch; ++i) {
      if (begin + i >= a.chunks) continue;
      states[chunk_at(begin + i) * row] = h;
      h = exp2_special(decay * dt_sum[i]) * h + end[i];
    }
  }
}

}  // namespace vimdeploy::cuda
