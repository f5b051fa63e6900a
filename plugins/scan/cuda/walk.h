// The text of the scan's CUDA kernels, first part: how one thread walks one channel of one item through the tokens of a
// chunk. An item is a direction and a group of kStateGroup states.
//
// Tokens are walked in tiles of kTokenTile, the last tile first where the direction is reversed; slot i of a tile is
// its i-th token in the order of the walk. Of a tile that reaches past the chunk's end, those slots have a step size of
// 0 and leave the states as they are. A group that is short of states repeats its last one and divides C among the
// copies: zeros in their place would make NaN of an infinite u.

#pragma once

#include "scan/cuda/arguments.h"
#include "scan/cuda/layout.h"
#include "scan/cuda/math.h"
#include "scan/element.h"
#include "scan/host_device.h"

namespace vimdeploy::cuda {

// What the threads of a group share.
struct GroupMemory {
  float* rows;     // two tiles' of dt_bc
  float* weights;  // of the low rank

  VIMDEPLOY_HD GroupMemory(const SharedLayout& layout, float* shared, int group, int rank)
      : rows(shared + layout.rows + group * 2 * tile_floats(rank)),
        weights(shared + layout.weights + group * rank * kChannelTile) {}

  VIMDEPLOY_HD float* rows_of(int rank, int step) const { return rows + step % 2 * tile_floats(rank); }
};

// The registers of a thread on its walk. Threads beyond the last channel walk that one too, and store nothing.
template <typename T>
struct Walk {
  // Lanes of a group that stage one row of dt_bc, and how many numbers of its low rank each of them holds until the
  // tile is written: enough for R = 48. More are loaded late.
  static constexpr int kLanes = kChannelTile / kTokenTile;
  static constexpr int kRankAhead = 6;
  static constexpr int kStatesAhead = kStateGroup / kLanes;

  int lane;                     // of the group's threads
  int flip;                     // slot ^ flip is the token of a tile
  const T* u;                   // the channel's, at the area's first token
  const T* rows;                // of dt_bc, the row that the thread stages of the area's first tile
  int first_state, last_state;  // of the item's; the last counted from the first
  float dt_bias, skip;
  float decay[kStateGroup];  // A * log2(e)
  float h[kStateGroup];

  // Of the tile that comes next.
  Held<T> next_u[kTokenTile];
  Held<T> next_rank[kRankAhead];
  Held<T> next_b[kStatesAhead], next_c[kStatesAhead];

  // Begins the walk with states of zero, and stages its first tile.
  VIMDEPLOY_HD void enter(const ScanArguments<T>& a, const Area& area, int item, int lane_, const GroupMemory& shared) {
    lane = lane_;
    const int k = item % a.directions;
    first_state = item / a.directions * kStateGroup;
    last_state = (a.states - first_state < kStateGroup ? a.states - first_state : kStateGroup) - 1;
    const int e = area.channel_of(a, lane);
    const int64_t token = (static_cast<int64_t>(k) * a.batch + area.b) * a.tokens + area.begin;
    const int64_t channel = static_cast<int64_t>(k) * a.channels + e;
    flip = a.is_reversed(item) * (kTokenTile - 1);
    u = a.u + token * a.channels + e;
    rows = a.dt_bc + (token + row_lane()) * a.row();
    dt_bias = a.dt_bias[channel];
    skip = a.D[channel];
    VIMDEPLOY_UNROLL
    for (int n = 0; n < kStateGroup; ++n) {
      decay[n] = a.decay_of(channel, first_state + (n < last_state ? n : last_state));
      h[n] = 0.0f;
    }
    VIMDEPLOY_DO_NOT_UNROLL
    for (int r = 0; r < a.rank; ++r)
      shared.weights[r * kChannelTile + lane] = to_float(a.dt_weight[channel * a.rank + r]);
    load_rows(a, area, tile_at(area, 0));
    load_u(a, area, tile_at(area, 0));
    stage(a, area, tile_at(area, 0), shared.rows_of(a.rank, 0));
  }

  // y of the slots of a step's tile; returns the sum of their step sizes. The next tile is loaded and staged meanwhile:
  // rows in the first half of the slots, u in the second, so that they share registers.
  VIMDEPLOY_HD float advance(const ScanArguments<T>& a, const Area& area, int step, const GroupMemory& shared,
                             float (&y)[kTokenTile]) {
    const int next = tile_at(area, step + 1);
    const bool has_next = step + 1 < area.tiles, has_skip = first_state == 0;  // D is the first item's
    const float* staged = shared.rows_of(a.rank, step);
    const float* states = staged + a.rank * kTokenTile;
    const unsigned there = slots_there(area, tile_at(area, step));
    float low_rank[kTokenTile], sum = 0.0f;
    Held<T> u_here[kTokenTile];
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) u_here[i] = next_u[i];
    make_low_rank(a, staged, shared.weights, low_rank);
    if (has_next) load_rows(a, area, next);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) {
      if (i == kTokenTile / 2 && has_next) {
        stage(a, area, next, shared.rows_of(a.rank, step + 1));
        load_u(a, area, next);
      }
      const float size = softplus(low_rank[i]), dt = there >> i & 1 ? size : 0.0f;
      const float u_i = to_float(u_here[i]), skipped = skip * u_i;
      y[i] = advance_token(dt, dt * u_i, states + i * kStateRow, has_skip ? skipped : 0.0f);
      sum += dt;
    }
    return sum;
  }

  VIMDEPLOY_HD int tile_at(const Area& area, int step) const { return flip ? area.tiles - 1 - step : step; }

  // The token of a tile's slot 0, and the way from a slot's token to the next slot's. By arithmetic: of a choice
  // between two numbers compilers would make one at every address.
  VIMDEPLOY_HD int first_token(int tile) const { return tile * kTokenTile + flip; }
  VIMDEPLOY_HD int token_step() const { return 1 - 2 * (flip & 1); }

  // Bit i: whether slot i of a tile is a token of the chunk.
  VIMDEPLOY_HD unsigned slots_there(const Area& area, int tile) const {
    const int count = area.tokens - tile * kTokenTile;
    constexpr unsigned kAll = (1u << kTokenTile) - 1;
    return count >= kTokenTile ? kAll : flip ? kAll << (kTokenTile - count) & kAll : kAll >> (kTokenTile - count);
  }

 private:
  // Which number of which row the thread stages first.
  VIMDEPLOY_HD int row_lane() const { return quotient(lane, kLanes); }
  VIMDEPLOY_HD int column_lane() const { return remainder(lane, kLanes); }

  // The row of dt_bc that the thread stages of a tile, and whether it is there.
  VIMDEPLOY_HD const T* row_of(const ScanArguments<T>& a, int tile) const {
    return rows + static_cast<int64_t>(tile * kTokenTile) * a.row();
  }
  VIMDEPLOY_HD bool has_row(const Area& area, int tile) const { return tile * kTokenTile + row_lane() < area.tokens; }

  VIMDEPLOY_HD void load_rows(const ScanArguments<T>& a, const Area& area, int tile) {
    const T* row = row_of(a, tile);
    const T* of_lane = row + column_lane();
    const int rank_there = (has_row(area, tile) ? a.rank : 0) - column_lane();
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kRankAhead; ++i) next_rank[i] = i * kLanes < rank_there ? held(of_lane[i * kLanes]) : Held<T>{};
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesAhead; ++i) {
      const int n = column_lane() + i * kLanes;
      const T* b = row + a.rank + first_state + (n < last_state ? n : last_state);
      next_b[i] = has_row(area, tile) ? held(b[0]) : Held<T>{};
      next_c[i] = has_row(area, tile) ? held(b[a.states]) : Held<T>{};
    }
  }

  VIMDEPLOY_HD void load_u(const ScanArguments<T>& a, const Area& area, int tile) {
    const T* first = u + static_cast<int64_t>(first_token(tile)) * a.channels;
    const int apart = token_step() * a.channels;
    const unsigned there = slots_there(area, tile);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) next_u[i] = there >> i & 1 ? held(first[i * apart]) : Held<T>{};
  }

  // Writes what load_rows() brought to shared memory, in the order of the walk.
  VIMDEPLOY_HD void stage(const ScanArguments<T>& a, const Area& area, int tile, float* staged) const {
    const int slot = row_lane() ^ flip;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kRankAhead; ++i) {
      const int r = column_lane() + i * kLanes;
      if (r < a.rank) staged[r * kTokenTile + slot] = to_float(next_rank[i]);
    }
    const T* row = row_of(a, tile);
    VIMDEPLOY_DO_NOT_UNROLL
    for (int r = column_lane() + kRankAhead * kLanes; r < a.rank; r += kLanes)
      staged[r * kTokenTile + slot] = has_row(area, tile) ? to_float(row[r]) : 0.0f;
    const float share = reciprocal(static_cast<float>(kStateGroup - last_state));
    float* states = staged + a.rank * kTokenTile + slot * kStateRow;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesAhead; ++i) {
      const int n = column_lane() + i * kLanes;
      states[n] = to_float(next_b[i]);
      states[kStateGroup + n] = to_float(next_c[i]) * (n < last_state ? 1.0f : share);
    }
  }

  // What the step sizes of a tile's slots are the softplus of.
  VIMDEPLOY_HD void make_low_rank(const ScanArguments<T>& a, const float* staged, const float* weights,
                                  float (&dt)[kTokenTile]) const {
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) dt[i] = dt_bias;
    const float* weight = weights + lane;
    for (int r = 0; r < a.rank; ++r, weight += kChannelTile, staged += kTokenTile) {
      float low[4], high[4];
      load4(staged, low);
      load4(staged + 4, high);
      VIMDEPLOY_UNROLL
      for (int i = 0; i < 4; ++i) {
        dt[i] += *weight * low[i];
        dt[i + 4] += *weight * high[i];
      }
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
