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
};

// The registers of a thread on its walk. Threads beyond the last channel walk that one too, and store nothing.
template <typename T>
struct Walk {
  // Lanes of a group that stage one row of dt_bc, and how many numbers of its low rank each of them holds until the
  // tile is written: enough for R = 48. More are loaded late. Up to R = 16 all but kRankOften are passed over at once.
  static constexpr int kLanes = kChannelTile / kTokenTile;
  static constexpr int kRankAhead = 6;
  static constexpr int kRankOften = 2;
  static constexpr int kStatesAhead = kStateGroup / kLanes;

  int lane;        // of the group's threads
  int flip;        // slot ^ flip is the token of a tile
  int apart;       // channels' numbers from a slot's u to the next slot's
  const T* u;      // the channel's, at the area's first token
  const T* row;    // of dt_bc, the one that the thread stages of the tile that comes next
  float* staged;   // two tiles' rows of dt_bc
  float* weights;  // of the channel's low rank, kChannelTile apart
  float dt_bias, skip;
  float decay[kStateGroup];  // A * log2(e)
  float h[kStateGroup];

  // Of the states that the thread stages: where B is in a row of dt_bc, and the factor on C.
  int b_column[kStatesAhead];
  float share[kStatesAhead];

  // Of the tile that comes next.
  Held<T> next_u[kTokenTile];
  Held<T> next_rank[kRankAhead];
  Held<T> next_b[kStatesAhead], next_c[kStatesAhead];

  // Begins the walk with states of zero, and stages its first tile.
  VIMDEPLOY_HD void enter(const ScanArguments<T>& a, const Area& area, int item, int lane_, const GroupMemory& shared) {
    lane = lane_;
    const int k = item % a.directions, first_state = item / a.directions * kStateGroup;
    const int last_state = (a.states - first_state < kStateGroup ? a.states - first_state : kStateGroup) - 1;
    const int e = area.channel_of(a, lane);
    const int64_t token = (static_cast<int64_t>(k) * a.batch + area.b) * a.tokens + area.begin;
    const int64_t channel = static_cast<int64_t>(k) * a.channels + e;
    flip = a.is_reversed(item) * (kTokenTile - 1);
    apart = token_step() * a.channels;
    u = a.u + token * a.channels + e;
    row = a.dt_bc + (token + tile_at(area, 0) * kTokenTile + row_lane()) * a.row();
    staged = shared.rows;
    weights = shared.weights + lane;
    dt_bias = a.dt_bias[channel];
    // Each item that has the direction adds its part: to leave D to one of them would cost a choice at every token.
    skip = a.D[channel] * reciprocal(static_cast<float>(a.items / a.directions));
    VIMDEPLOY_UNROLL
    for (int n = 0; n < kStateGroup; ++n) {
      decay[n] = a.decay_of(channel, first_state + (n < last_state ? n : last_state));
      h[n] = 0.0f;
    }
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesAhead; ++i) {
      const int n = column_lane() + i * kLanes;
      b_column[i] = a.rank + first_state + (n < last_state ? n : last_state);
      share[i] = n < last_state ? 1.0f : reciprocal(static_cast<float>(kStateGroup - last_state));
    }
    VIMDEPLOY_DO_NOT_UNROLL
    for (int r = 0; r < a.rank; ++r) weights[r * kChannelTile] = to_float(a.dt_weight[channel * a.rank + r]);
    load_rows(a, area, tile_at(area, 0));
    load_u(a, area, tile_at(area, 0));
    stage(a, area, tile_at(area, 0), 0);
    row += static_cast<int64_t>(token_step() * kTokenTile) * a.row();
  }

  // y of the slots of a step's tile; returns the sum of their step sizes. The next tile is loaded and staged meanwhile:
  // rows in the first half of the slots, u in the second, so that they share registers.
  VIMDEPLOY_HD float advance(const ScanArguments<T>& a, const Area& area, int step, float (&y)[kTokenTile]) {
    const int next = tile_at(area, step + 1);
    const bool has_next = step + 1 < area.tiles;
    const float* states = rows_of(a, step);
    float low_rank[kTokenTile], sum = 0.0f;
    Held<T> u_here[kTokenTile];
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) u_here[i] = next_u[i];
    make_low_rank(a, states + kTokenTile * kStateRow, tokens_there(area, tile_at(area, step)), low_rank);
    if (has_next) load_rows(a, area, next);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) {
      if (i == kTokenTile / 2 && has_next) {
        stage(a, area, next, step + 1);
        row += static_cast<int64_t>(token_step() * kTokenTile) * a.row();
        load_u(a, area, next);
      }
      const float dt = softplus(low_rank[i]), u_i = to_float(u_here[i]);
      y[i] = advance_token(dt, dt * u_i, states + i * kStateRow, skip * u_i);
      sum += dt;
    }
    return sum;
  }

  VIMDEPLOY_HD int tile_at(const Area& area, int step) const { return flip ? area.tiles - 1 - step : step; }

  // The token of a tile's slot 0, and the way from a slot's token to the next slot's. By arithmetic: of a choice
  // between two numbers compilers would make one at every address.
  VIMDEPLOY_HD int first_token(int tile) const { return tile * kTokenTile + flip; }
  VIMDEPLOY_HD int token_step() const { return 1 - 2 * (flip & 1); }

  // How many tokens of a tile the chunk has: kTokenTile or more where it has all.
  VIMDEPLOY_HD int tokens_there(const Area& area, int tile) const { return area.tokens - tile * kTokenTile; }

  // Calls body(slot) for a tile's slots whose tokens are there. Of a whole tile's it asks for none.
  template <typename Body>
  VIMDEPLOY_HD void each_slot(int there, Body&& body) const {
    if (there >= kTokenTile) {
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kTokenTile; ++i) body(i);
    } else {
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kTokenTile; ++i) {
        if ((i ^ flip) < there) body(i);
      }
    }
  }

 private:
  // Which number of which row the thread stages first.
  VIMDEPLOY_HD int row_lane() const { return quotient(lane, kLanes); }
  VIMDEPLOY_HD int column_lane() const { return remainder(lane, kLanes); }

  // A step's tile in shared memory.
  VIMDEPLOY_HD float* rows_of(const ScanArguments<T>& a, int step) const {
    return staged + step % 2 * tile_floats(a.rank);
  }

  // Whether the row that the thread stages of a tile is there.
  VIMDEPLOY_HD bool has_row(const Area& area, int tile) const { return row_lane() < tokens_there(area, tile); }

  VIMDEPLOY_HD void load_rows(const ScanArguments<T>& a, const Area& area, int tile) {
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesAhead; ++i) next_b[i] = next_c[i] = Held<T>{};
    if (!has_row(area, tile)) return;
    const T* of_lane = row + column_lane();
    const int rank_of_lane = a.rank - column_lane();
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kRankAhead; ++i) {
      if (i == kRankOften && a.rank <= kRankOften * kLanes) break;
      if (i * kLanes < rank_of_lane) next_rank[i] = held(of_lane[i * kLanes]);
    }
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesAhead; ++i) {
      const T* b = row + b_column[i];
      next_b[i] = held(b[0]);
      next_c[i] = held(b[a.states]);
    }
  }

  VIMDEPLOY_HD void load_u(const ScanArguments<T>& a, const Area& area, int tile) {
    const T* first = u + static_cast<int64_t>(first_token(tile)) * a.channels;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) next_u[i] = Held<T>{};
    each_slot(tokens_there(area, tile), [&](int i) { next_u[i] = held(first[static_cast<int64_t>(i) * apart]); });
  }

  // Writes what load_rows() brought to shared memory, in the order of the walk.
  VIMDEPLOY_HD void stage(const ScanArguments<T>& a, const Area& area, int tile, int step) const {
    const int slot = row_lane() ^ flip;
    float* states = rows_of(a, step) + slot * kStateRow + column_lane();
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesAhead; ++i) {
      states[i * kLanes] = to_float(next_b[i]);
      states[kStateGroup + i * kLanes] = to_float(next_c[i]) * share[i];
    }
    float* ranks = rows_of(a, step) + kTokenTile * kStateRow + slot;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kRankAhead; ++i) {
      if (i == kRankOften && a.rank <= kRankOften * kLanes) return;
      const int r = column_lane() + i * kLanes;
      if (r < a.rank) ranks[r * kTokenTile] = to_float(next_rank[i]);
    }
    VIMDEPLOY_DO_NOT_UNROLL
    for (int r = column_lane() + kRankAhead * kLanes; r < a.rank; r += kLanes)
      ranks[r * kTokenTile] = has_row(area, tile) ? to_float(row[r]) : 0.0f;
  }

  // What the step sizes of a tile's slots are the softplus of.
  VIMDEPLOY_HD void make_low_rank(const ScanArguments<T>& a, const float* rank_rows, int there,
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
    if (there >= kTokenTile) return;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) {
      if ((i ^ flip) >= there) dt[i] = -INFINITY;
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
