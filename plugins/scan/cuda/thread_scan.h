// Source of the scan's CUDA kernels, first part: how one thread scans its channels of one subscan over the tokens of
// a chunk: one channel, or two adjacent ones, which share B, C and all addresses. A subscan is one direction with a
// group of kStates states.
//
// Tokens are scanned in tiles of kTokenTile, the last tile first if the direction is reversed; slot i of a tile is its
// i-th token in the order of the scan. Slots past the end of the chunk are padding: their step size is 0, which leaves
// the states as they are. A group with fewer than kStates states is padded by copies of its last one, and C is divided
// among the copies: zeros as padding would make NaN of an infinite u.

#pragma once

#include "scan/cuda/arguments.h"
#include "scan/cuda/layout.h"
#include "scan/cuda/math.h"
#include "scan/element.h"
#include "scan/host_device.h"

namespace vimdeploy::cuda {

// The shared memory of a thread group.
struct GroupSharedMemory {
  float* rows;     // of B, C and the low rank, two tiles: double-buffered
  float* weights;  // of the low rank's product, (rank, kChannelTile)

  VIMDEPLOY_HD GroupSharedMemory(const SharedLayout& layout, float* shared, int group, const ScanArguments& a)
      : rows(shared + layout.rows + group * 2 * tile_floats(a.state_group, a.rank)),
        weights(shared + layout.weights + group * a.rank * kChannelTile) {}
};

// The register-resident state of a thread's scan. Threads beyond the last channel scan the last ones too, and store
// nothing.
template <typename Kind>
struct ThreadScan {
  using T = typename Kind::Element;
  static constexpr int kStates = Kind::kStates;
  static constexpr int kChannels = Kind::kChannels;
  static constexpr bool kIsOneRow = Kind::kForm == Form::gated;    // low rank, B and C
  static constexpr bool kHasLowRank = Kind::kForm != Form::given;  // else a step size for every channel

  // Numbers of a slot, of all channels of the thread.
  using Slot = Packed<T, kChannels>;

  // Lanes that stage one token together, and how many numbers of its low rank each of them prefetches into
  // registers: enough for R = 48. A larger rank is loaded without prefetch. Up to R = 16, kRankCommon of them are
  // enough, and one branch skips the others.
  static constexpr int kLanes = Kind::kGroupThreads / kTokenTile;
  static constexpr int kRankPrefetch = 48 / kLanes;
  static constexpr int kRankCommon = 16 / kLanes;
  static constexpr int kStatesPerLane = kStates < kLanes ? 1 : kStates / kLanes;

  int lane;          // index in the thread group
  int reverse_mask;  // slot ^ reverse_mask is the token in a tile: 0, or kTokenTile - 1 if reversed
  int slot_stride;   // elements from u of a slot to u of the next one, negative if reversed
  const T* u;        // the thread's first channel, at the first token of the extent
  const T* delta;    // the same, unless kHasLowRank
  const T* row;      // of B, the row that the thread stages of the next tile; if kIsOneRow, of the low rank, B and C
  const T* c_row;    // of C and of the low rank, unless kIsOneRow
  const T* rank_row;
  float* staged;   // rows in shared memory, two tiles
  float* weights;  // of the thread's channels, kChannelTile apart
  float dt_bias[kChannels], skip[kChannels];
  float decay[kChannels][kStates];  // A * log2(e)
  float h[kChannels][kStates];
  float dt_sum[kChannels];  // of the step sizes so far

  // For the states that the thread stages: the column of B in `row`, and the factor on C, which is the padding
  // share of a state that is repeated.
  int b_column[kStatesPerLane];
  float c_scale[kStatesPerLane];

  // Prefetched for the next tile.
  Slot next_u[kTokenTile];
  Slot next_delta[kTokenTile];
  Packed<T, 1> next_rank[kRankPrefetch];
  Packed<T, 1> next_b[kStatesPerLane], next_c[kStatesPerLane];

  // Begins a scan with states of zero. begin_walk() must follow.
  VIMDEPLOY_HD void begin_scan(const ScanArguments& a, const BlockExtent& extent, int subscan, int lane_,
                               const GroupSharedMemory& shared) {
    lane = lane_;
    const int k = subscan % a.directions, first_state = subscan / a.directions * kStates;
    const int last_state = (a.states - first_state < kStates ? a.states - first_state : kStates) - 1;
    const int e = extent.template channel_of<Kind>(a, lane);
    const int64_t channel = static_cast<int64_t>(k) * a.channels + e;
    reverse_mask = a.is_reversed(subscan) * (kTokenTile - 1);
    slot_stride = token_step() * a.channels;
    u = a.u.at<T>(k, extent.b, extent.begin) + e;
    const int staged_token = extent.begin + tile_at(extent, 0) * kTokenTile + lane_row();
    if constexpr (kIsOneRow) {
      row = a.delta.at<T>(k, extent.b, staged_token);
    } else {
      row = a.B.at<T>(k, extent.b, staged_token);
      c_row = a.C.at<T>(k, extent.b, staged_token);
      if constexpr (kHasLowRank) {
        rank_row = a.delta.at<T>(k, extent.b, staged_token);
      } else {
        delta = a.delta.at<T>(k, extent.b, extent.begin) + e;
      }
    }
    staged = shared.rows;
    weights = shared.weights + lane * kChannels;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kChannels; ++i) {
      dt_bias[i] = a.delta_bias[channel + i];
      // D is divided among the subscans of a direction: to leave it to one of them would cost a branch at every token.
      skip[i] = a.D[channel + i] * reciprocal(static_cast<float>(a.subscans / a.directions));
      dt_sum[i] = 0.0f;
      VIMDEPLOY_UNROLL
      for (int n = 0; n < kStates; ++n) {
        decay[i][n] = a.decay_of(channel + i, first_state + (n < last_state ? n : last_state));
        h[i][n] = 0.0f;
      }
    }
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesPerLane; ++i) {
      const int n = lane_column() + i * kLanes;
      b_column[i] = (kIsOneRow ? a.rank : 0) + first_state + (n < last_state ? n : last_state);
      c_scale[i] = n < last_state ? 1.0f : reciprocal(static_cast<float>(kStates - last_state));
    }
    if constexpr (kHasLowRank) {
      const auto* weight = static_cast<const T*>(a.delta_weight) + channel * a.rank;
      VIMDEPLOY_DO_NOT_UNROLL
      for (int r = 0; r < a.rank; ++r) {
        VIMDEPLOY_UNROLL
        for (int i = 0; i < kChannels; ++i) weights[r * kChannelTile + i] = to_float(weight[i * a.rank + r]);
      }
    }
  }

  // Loads and stages the first tile; a barrier must follow. The two parts can stand apart.
  VIMDEPLOY_HD void begin_walk(const ScanArguments& a, const BlockExtent& extent) {
    load_first(a, extent);
    stage_first(a, extent);
  }

  VIMDEPLOY_HD void load_first(const ScanArguments& a, const BlockExtent& extent) {
    load_rows(a, extent, tile_at(extent, 0));
    load_channels(a, extent, tile_at(extent, 0));
  }

  VIMDEPLOY_HD void stage_first(const ScanArguments& a, const BlockExtent& extent) {
    stage(a, extent, tile_at(extent, 0), 0);
    move_rows(a, 1);
  }

  // Goes back from the last tile to the first, to begin another walk over the same tokens; the states stay.
  VIMDEPLOY_HD void go_back(const ScanArguments& a, const BlockExtent& extent) { move_rows(a, -extent.tiles); }

  // Computes y for the slots of a step's tile. Loads and stages the next tile meanwhile: its rows in the first half of
  // the slots, u and what else belongs to the channels in the second, so that both use the same registers.
  VIMDEPLOY_HD void advance(const ScanArguments& a, const BlockExtent& extent, int step,
                            float (&y)[kChannels][kTokenTile]) {
    const int next = tile_at(extent, step + 1);
    const bool has_next = step + 1 < extent.tiles;
    const float* states = staged_tile(a, step);
    float dt[kChannels][kTokenTile];
    Slot current_u[kTokenTile];
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) current_u[i] = next_u[i];
    make_dt(a, states + kTokenTile * kStateRow, valid_tokens(extent, tile_at(extent, step)), dt);
    if (has_next) load_rows(a, extent, next);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) {
      if (i == kTokenTile / 2 && has_next) {
        stage(a, extent, next, step + 1);
        move_rows(a, 1);
        load_channels(a, extent, next);
      }
      float dt_i[kChannels], dt_u[kChannels], y_i[kChannels];
      VIMDEPLOY_UNROLL
      for (int j = 0; j < kChannels; ++j) {
        const float u_i = to_float(current_u[i], j);
        dt_i[j] = kIsSoftplusLast ? softplus(dt[j][i]) : dt[j][i];
        dt_u[j] = dt_i[j] * u_i;
        y_i[j] = skip[j] * u_i;
        dt_sum[j] += dt_i[j];
      }
      advance_token(dt_i, dt_u, states + i * kStateRow, y_i);
      VIMDEPLOY_UNROLL
      for (int j = 0; j < kChannels; ++j) y[j][i] = y_i[j];
    }
  }

  VIMDEPLOY_HD int tile_at(const BlockExtent& extent, int step) const {
    return reverse_mask ? extent.tiles - 1 - step : step;
  }

  // The token of slot 0 of a tile, and the step from a slot's token to that of the next slot. By arithmetic: compilers
  // turn a choice between two numbers into a choice at every address.
  VIMDEPLOY_HD int first_token(int tile) const { return tile * kTokenTile + reverse_mask; }
  VIMDEPLOY_HD int token_step() const { return 1 - 2 * (reverse_mask & 1); }

  // How many tokens of a tile are in the chunk: kTokenTile or more if all of them are.
  VIMDEPLOY_HD int valid_tokens(const BlockExtent& extent, int tile) const { return extent.tokens - tile * kTokenTile; }

  // Calls body(slot) for the slots of a tile that are not padding; a full tile takes a path without checks.
  template <typename Body>
  VIMDEPLOY_HD void for_each_valid_slot(int valid, Body&& body) const {
    if (valid >= kTokenTile) {
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kTokenTile; ++i) body(i);
    } else {
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kTokenTile; ++i) {
        if ((i ^ reverse_mask) < valid) body(i);
      }
    }
  }

 private:
  static constexpr int kStateRow = state_row(kStates);

  // Whether softplus is left to each token. The gated form always has it; the others ask once a tile whether they do.
  static constexpr bool kIsSoftplusLast = Kind::kForm == Form::gated;

  // Which row of a tile the thread stages, and the first column of it.
  VIMDEPLOY_HD int lane_row() const { return quotient(lane, kLanes); }
  VIMDEPLOY_HD int lane_column() const { return remainder(lane, kLanes); }

  // Whether the thread stages states: with fewer than kLanes, some threads stage none.
  VIMDEPLOY_HD bool stages_states() const { return kStates >= kLanes || lane_column() < kStates; }

  // The buffer of a step's tile in shared memory.
  VIMDEPLOY_HD float* staged_tile(const ScanArguments& a, int step) const {
    return staged + step % 2 * tile_floats(kStates, a.rank);
  }

  // Whether the row that the thread stages of a tile is in the chunk.
  VIMDEPLOY_HD bool has_row(const BlockExtent& extent, int tile) const {
    return lane_row() < valid_tokens(extent, tile);
  }

  VIMDEPLOY_HD const T* low_rank_row() const { return kIsOneRow ? row : rank_row; }

  // Goes on by so many tiles in the order of the scan.
  VIMDEPLOY_HD void move_rows(const ScanArguments& a, int tiles) {
    const int64_t tokens = token_step() * kTokenTile * tiles;
    if constexpr (kIsOneRow) {
      row += tokens * static_cast<int>(a.delta.token);
    } else {
      row += tokens * static_cast<int>(a.B.token);
      c_row += tokens * static_cast<int>(a.C.token);
      if constexpr (kHasLowRank) rank_row += tokens * static_cast<int>(a.delta.token);
    }
  }

  VIMDEPLOY_HD void load_rows(const ScanArguments& a, const BlockExtent& extent, int tile) {
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesPerLane; ++i) next_b[i] = next_c[i] = {};
    if (!has_row(extent, tile)) return;
    if constexpr (kHasLowRank) {
      const T* first = low_rank_row() + lane_column();
      const int rank_of_lane = a.rank - lane_column();
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kRankPrefetch; ++i) {
        if (i == kRankCommon && a.rank <= kRankCommon * kLanes) break;
        if (i * kLanes < rank_of_lane) next_rank[i] = load_packed<1>(first + i * kLanes);
      }
    }
    if (!stages_states()) return;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesPerLane; ++i) {
      const T* b = row + b_column[i];
      next_b[i] = load_packed<1>(b);
      next_c[i] = load_packed<1>(kIsOneRow ? b + a.states : c_row + b_column[i]);
    }
  }

  // Loads what belongs to the thread's channels: u, and the step sizes unless they are made from a low rank.
  VIMDEPLOY_HD void load_channels(const ScanArguments& a, const BlockExtent& extent, int tile) {
    load_slots(a, extent, tile, u, next_u);
    if constexpr (!kHasLowRank) load_slots(a, extent, tile, delta, next_delta);
  }

  VIMDEPLOY_HD void load_slots(const ScanArguments& a, const BlockExtent& extent, int tile, const T* channel,
                               Slot (&next)[kTokenTile]) {
    const T* first = channel + static_cast<int64_t>(first_token(tile)) * a.channels;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) next[i] = {};
    for_each_valid_slot(valid_tokens(extent, tile), [&](int i) {
      next[i] = load_packed<kChannels>(first + static_cast<int64_t>(i) * slot_stride);
    });
  }

  // Writes what load_rows() prefetched to shared memory, in the order of the scan.
  VIMDEPLOY_HD void stage(const ScanArguments& a, const BlockExtent& extent, int tile, int step) const {
    const int slot = lane_row() ^ reverse_mask;
    if (stages_states()) {
      float* states = staged_tile(a, step) + slot * kStateRow + lane_column();
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kStatesPerLane; ++i) {
        states[i * kLanes] = to_float(next_b[i], 0);
        states[kStates + i * kLanes] = to_float(next_c[i], 0) * c_scale[i];
      }
    }
    if constexpr (!kHasLowRank) return;
    float* ranks = staged_tile(a, step) + kTokenTile * kStateRow + slot;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kRankPrefetch; ++i) {
      if (i == kRankCommon && a.rank <= kRankCommon * kLanes) return;
      const int r = lane_column() + i * kLanes;
      if (r < a.rank) ranks[r * kTokenTile] = to_float(next_rank[i], 0);
    }
    VIMDEPLOY_DO_NOT_UNROLL
    for (int r = lane_column() + kRankPrefetch * kLanes; r < a.rank; r += kLanes)
      ranks[r * kTokenTile] = has_row(extent, tile) ? to_float(low_rank_row()[r]) : 0.0f;
  }

  // The step sizes of a tile's slots, before softplus if kIsSoftplusLast; those of padding are 0.
  VIMDEPLOY_HD void make_dt(const ScanArguments& a, const float* rank_rows, int valid,
                            float (&dt)[kChannels][kTokenTile]) const {
    VIMDEPLOY_UNROLL
    for (int j = 0; j < kChannels; ++j) {
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kTokenTile; ++i) dt[j][i] = dt_bias[j] + (kHasLowRank ? 0.0f : to_float(next_delta[i], j));
    }
    if constexpr (kHasLowRank) {
      const float* weight = weights;
      int r = 0;
      do {
        float low[4], high[4], of_channel[kChannels];
        load(rank_rows, low);
        load(rank_rows + 4, high);
        load(weight, of_channel);
        VIMDEPLOY_UNROLL
        for (int j = 0; j < kChannels; ++j) {
          VIMDEPLOY_UNROLL
          for (int i = 0; i < 4; ++i) {
            dt[j][i] += of_channel[j] * low[i];
            dt[j][i + 4] += of_channel[j] * high[i];
          }
        }
        weight += kChannelTile, rank_rows += kTokenTile;
      } while (++r < a.rank);
    }
    if (!kIsSoftplusLast && a.has_softplus) {
      VIMDEPLOY_UNROLL
      for (int j = 0; j < kChannels; ++j) {
        VIMDEPLOY_UNROLL
        for (int i = 0; i < kTokenTile; ++i) dt[j][i] = softplus(dt[j][i]);
      }
    }
    if (valid >= kTokenTile) return;
    VIMDEPLOY_UNROLL
    for (int j = 0; j < kChannels; ++j) {
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kTokenTile; ++i) {
        if ((i ^ reverse_mask) >= valid) dt[j][i] = kIsSoftplusLast ? -INFINITY : 0.0f;
      }
    }
  }

  // h = exp(dt * A) * h + dt * u * B for one token, whose B and C are at `states`; adds the sum of C * h to y.
  VIMDEPLOY_HD void advance_token(const float (&dt)[kChannels], const float (&dt_u)[kChannels], const float* states,
                                  float (&y)[kChannels]) {
    constexpr int kStep = kStates < 4 ? kStates : 4;
    VIMDEPLOY_UNROLL
    for (int n = 0; n < kStates; n += kStep) {
      float b[kStep], c[kStep];
      load(states + n, b);
      load(states + kStates + n, c);
      VIMDEPLOY_UNROLL
      for (int m = 0; m < kStep; ++m) {
        VIMDEPLOY_UNROLL
        for (int j = 0; j < kChannels; ++j) {
          float& state = h[j][n + m];
          state = exp2_special(dt[j] * decay[j][n + m]) * state + dt_u[j] * b[m];
          y[j] += state * c[m];
        }
      }
    }
  }
};

}  // namespace vimdeploy::cuda
