// Source of the scan's CUDA kernels, first part: how one thread scans one channel of one subscan over the tokens of a
// chunk. A subscan is one direction with a group of kStateGroup states.
//
// Tokens are scanned in tiles of kTokenTile, the last tile first if the direction is reversed; slot i of a tile is its
// i-th token in the order of the scan. Slots past the end of the chunk are padding: their step size is 0, which leaves
// the states as they are. A group with fewer than kStateGroup states is padded by copies of its last one, and C is
// divided among the copies: zeros as padding would make NaN of an infinite u.

#pragma once

#include "scan/cuda/arguments.h"
#include "scan/cuda/layout.h"
#include "scan/cuda/math.h"
#include "scan/element.h"
#include "scan/host_device.h"

namespace vimdeploy::cuda {

// The shared memory of a thread group.
struct GroupSharedMemory {
  float* rows;     // of dt_bc, two tiles: double-buffered
  float* weights;  // of the low rank's product, (rank, kChannelTile)

  VIMDEPLOY_HD GroupSharedMemory(const SharedLayout& layout, float* shared, int group, int rank)
      : rows(shared + layout.rows + group * 2 * tile_floats(rank)),
        weights(shared + layout.weights + group * rank * kChannelTile) {}
};

// The register-resident state of a thread's scan. Threads beyond the last channel scan that one too, and store nothing.
template <typename T>
struct ThreadScan {
  // Lanes that stage one row of dt_bc together, and how many numbers of its low rank each of them prefetches into
  // registers: enough for R = 48. A larger rank is loaded without prefetch. Up to R = 16, kRankCommon of them are
  // enough, and one branch skips the others.
  static constexpr int kLanes = kChannelTile / kTokenTile;
  static constexpr int kRankPrefetch = 6;
  static constexpr int kRankCommon = 2;
  static constexpr int kStatesPerLane = kStateGroup / kLanes;

  int lane;          // index in the thread group: the channel in the tile
  int reverse_mask;  // slot ^ reverse_mask is the token in a tile: 0, or kTokenTile - 1 if reversed
  int slot_stride;   // elements from u of a slot to u of the next one, negative if reversed
  const T* u;        // the thread's channel, at the first token of the extent
  const T* row;      // of dt_bc, the row that the thread stages of the next tile
  float* staged;     // rows of dt_bc in shared memory, two tiles
  float* weights;    // of the thread's channel, kChannelTile apart
  float dt_bias, skip;
  float decay[kStateGroup];  // A * log2(e)
  float h[kStateGroup];

  // For the states that the thread stages: the column of B in a row of dt_bc, and the factor on C, which is the padding
  // share of a state that is repeated.
  int b_column[kStatesPerLane];
  float c_scale[kStatesPerLane];

  // Prefetched for the next tile.
  Prefetched<T> next_u[kTokenTile];
  Prefetched<T> next_rank[kRankPrefetch];
  Prefetched<T> next_b[kStatesPerLane], next_c[kStatesPerLane];

  // Begins a scan with states of zero, and stages its first tile.
  VIMDEPLOY_HD void begin_scan(const ScanArguments<T>& a, const BlockExtent& extent, int subscan, int lane_,
                               const GroupSharedMemory& shared) {
    lane = lane_;
    const int k = subscan % a.directions, first_state = subscan / a.directions * kStateGroup;
    const int last_state = (a.states - first_state < kStateGroup ? a.states - first_state : kStateGroup) - 1;
    const int e = extent.channel_of(a, lane);
    const int64_t token = (static_cast<int64_t>(k) * a.batch + extent.b) * a.tokens + extent.begin;
    const int64_t channel = static_cast<int64_t>(k) * a.channels + e;
    reverse_mask = a.is_reversed(subscan) * (kTokenTile - 1);
    slot_stride = token_step() * a.channels;
    u = a.u + token * a.channels + e;
    row = a.dt_bc + (token + tile_at(extent, 0) * kTokenTile + lane_row()) * a.row();
    staged = shared.rows;
    weights = shared.weights + lane;
    dt_bias = a.dt_bias[channel];
    // D is divided among the subscans of a direction: to leave it to one of them would cost a branch at every token.
    skip = a.D[channel] * reciprocal(static_cast<float>(a.subscans / a.directions));
    VIMDEPLOY_UNROLL
    for (int n = 0; n < kStateGroup; ++n) {
      decay[n] = a.decay_of(channel, first_state + (n < last_state ? n : last_state));
      h[n] = 0.0f;
    }
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesPerLane; ++i) {
      const int n = lane_column() + i * kLanes;
      b_column[i] = a.rank + first_state + (n < last_state ? n : last_state);
      c_scale[i] = n < last_state ? 1.0f : reciprocal(static_cast<float>(kStateGroup - last_state));
    }
    VIMDEPLOY_DO_NOT_UNROLL
    for (int r = 0; r < a.rank; ++r) weights[r * kChannelTile] = to_float(a.dt_weight[channel * a.rank + r]);
    load_rows(a, extent, tile_at(extent, 0));
    load_u(a, extent, tile_at(extent, 0));
    stage(a, extent, tile_at(extent, 0), 0);
    row += static_cast<int64_t>(token_step() * kTokenTile) * a.row();
  }

  // Computes y for the slots of a step's tile; returns the sum of their step sizes. Loads and stages the next tile
  // meanwhile: its rows in the first half of the slots, u in the second, so that both use the same registers.
  VIMDEPLOY_HD float advance(const ScanArguments<T>& a, const BlockExtent& extent, int step, float (&y)[kTokenTile]) {
    const int next = tile_at(extent, step + 1);
    const bool has_next = step + 1 < extent.tiles;
    const float* states = staged_tile(a, step);
    float raw_dt[kTokenTile], sum = 0.0f;
    Prefetched<T> current_u[kTokenTile];
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) current_u[i] = next_u[i];
    make_raw_dt(a, states + kTokenTile * kStateRow, valid_tokens(extent, tile_at(extent, step)), raw_dt);
    if (has_next) load_rows(a, extent, next);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) {
      if (i == kTokenTile / 2 && has_next) {
        stage(a, extent, next, step + 1);
        row += static_cast<int64_t>(token_step() * kTokenTile) * a.row();
        load_u(a, extent, next);
      }
      const float dt = softplus(raw_dt[i]), u_i = to_float(current_u[i]);
      y[i] = advance_token(dt, dt * u_i, states + i * kStateRow, skip * u_i);
      sum += dt;
    }
    return sum;
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
  // Which row of a tile the thread stages, and the first column of it.
  VIMDEPLOY_HD int lane_row() const { return quotient(lane, kLanes); }
  VIMDEPLOY_HD int lane_column() const { return remainder(lane, kLanes); }

  // The buffer of a step's tile in shared memory.
  VIMDEPLOY_HD float* staged_tile(const ScanArguments<T>& a, int step) const {
    return staged + step % 2 * tile_floats(a.rank);
  }

  // Whether the row that the thread stages of a tile is in the chunk.
  VIMDEPLOY_HD bool has_row(const BlockExtent& extent, int tile) const {
    return lane_row() < valid_tokens(extent, tile);
  }

  VIMDEPLOY_HD void load_rows(const ScanArguments<T>& a, const BlockExtent& extent, int tile) {
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesPerLane; ++i) next_b[i] = next_c[i] = Prefetched<T>{};
    if (!has_row(extent, tile)) return;
    const T* first = row + lane_column();
    const int rank_of_lane = a.rank - lane_column();
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kRankPrefetch; ++i) {
      if (i == kRankCommon && a.rank <= kRankCommon * kLanes) break;
      if (i * kLanes < rank_of_lane) next_rank[i] = prefetched(first[i * kLanes]);
    }
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesPerLane; ++i) {
      const T* b = row + b_column[i];
      next_b[i] = prefetched(b[0]);
      next_c[i] = prefetched(b[a.states]);
    }
  }

  VIMDEPLOY_HD void load_u(const ScanArguments<T>& a, const BlockExtent& extent, int tile) {
    const T* first = u + static_cast<int64_t>(first_token(tile)) * a.channels;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) next_u[i] = Prefetched<T>{};
    for_each_valid_slot(valid_tokens(extent, tile),
                        [&](int i) { next_u[i] = prefetched(first[static_cast<int64_t>(i) * slot_stride]); });
  }

  // Writes what load_rows() prefetched to shared memory, in the order of the scan.
  VIMDEPLOY_HD void stage(const ScanArguments<T>& a, const BlockExtent& extent, int tile, int step) const {
    const int slot = lane_row() ^ reverse_mask;
    float* states = staged_tile(a, step) + slot * kStateRow + lane_column();
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesPerLane; ++i) {
      states[i * kLanes] = to_float(next_b[i]);
      states[kStateGroup + i * kLanes] = to_float(next_c[i]) * c_scale[i];
    }
    float* ranks = staged_tile(a, step) + kTokenTile * kStateRow + slot;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kRankPrefetch; ++i) {
      if (i == kRankCommon && a.rank <= kRankCommon * kLanes) return;
      const int r = lane_column() + i * kLanes;
      if (r < a.rank) ranks[r * kTokenTile] = to_float(next_rank[i]);
    }
    VIMDEPLOY_DO_NOT_UNROLL
    for (int r = lane_column() + kRankPrefetch * kLanes; r < a.rank; r += kLanes)
      ranks[r * kTokenTile] = has_row(extent, tile) ? to_float(row[r]) : 0.0f;
  }

  // The step sizes of a tile's slots before softplus; -infinity for padding.
  VIMDEPLOY_HD void make_raw_dt(const ScanArguments<T>& a, const float* rank_rows, int valid,
                                float (&dt)[kTokenTile]) const {
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) dt[i] = dt_bias;
    const float* weight = weights;
    int r = 0;
    do {
      float low[4], high[4];
      load4(rank_rows, low);
      load4(rank_rows + 4, high);
      VIMDEPLOY_UNROLL
      for (int i = 0; i < 4; ++i) {
        dt[i] += *weight * low[i];
        dt[i + 4] += *weight * high[i];
      }
      weight += kChannelTile, rank_rows += kTokenTile;
    } while (++r < a.rank);
    if (valid >= kTokenTile) return;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) {
      if ((i ^ reverse_mask) >= valid) dt[i] = -INFINITY;
    }
  }

  // h = exp(dt * A) * h + dt * u * B for one token, whose B and C are at `states`; returns y plus the sum of C * h.
  VIMDEPLOY_HD float advance_token(float dt, float dt_u, const float* states, float y) {
    VIMDEPLOY_UNROLL
    for (int n = 0; n < kStateGroup; n += 4) {
      float b[4], c[4];
      load4(states + n, b);
      load4(states + kStateGroup + n, c);
      VIMDEPLOY_UNROLL
      for (int m = 0; m < 4; ++m) {
        h[n + m] = exp2_special(dt * decay[n + m]) * h[n + m] + dt_u * b[m];
        y += h[n + m] * c[m];
      }
    }
    return y;
  }
};

}  // namespace vimdeploy::cuda
