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

// Exponentials of a token that go to the multiply-add units, of kStateGroup.
inline constexpr int kPolynomialStates = 1;

// The registers of a thread on its walk. Threads beyond the last channel walk that one too, and store nothing.
template <typename T>
struct Walk {
  // Lanes of a group that stage one row of dt_bc, and how many numbers of its low rank each of them holds until the
  // tile is written: enough for R = 48. More are loaded late.
  static constexpr int kLanes = kChannelTile / kTokenTile;
  static constexpr int kRankAhead = 6;
  static constexpr int kStatesAhead = kStateGroup / kLanes;

  int item;
  int lane;                   // of the group's threads
  int flip;                   // slot ^ flip is the token of a tile
  const T* u;                 // the channel's, at the area's first token
  const T* rows;              // of dt_bc, at the area's first token
  int column[kStatesAhead];   // of B in a row; C is N further
  float share[kStatesAhead];  // of C, where a state is repeated
  float dt_bias, skip;
  float decay[kStateGroup];  // A * log2(e)
  float h[kStateGroup];

  // Of the tile that comes next.
  T next_u[kTokenTile];
  T next_rank[kRankAhead];
  T next_b[kStatesAhead], next_c[kStatesAhead];

  VIMDEPLOY_HD int tile_at(const Area& area, int step) const { return flip ? area.tiles - 1 - step : step; }

  // Begins the walk with states of zero. `weights` is the group's part of the shared memory.
  VIMDEPLOY_HD void enter(const ScanArguments<T>& a, const Area& area, int item_, int lane_, float* weights) {
    item = item_, lane = lane_;
    const int k = item % a.directions, first = item / a.directions * kStateGroup;
    const int last = (a.states - first < kStateGroup ? a.states - first : kStateGroup) - 1;
    const int e = area.channel + lane < a.channels ? area.channel + lane : a.channels - 1;
    const int64_t token = (static_cast<int64_t>(k) * a.batch + area.b) * a.tokens + area.begin;
    const int64_t channel = static_cast<int64_t>(k) * a.channels + e;
    flip = a.is_reversed(item) ? kTokenTile - 1 : 0;
    u = a.u + token * a.channels + e;
    rows = a.dt_bc + token * (a.rank + 2 * a.states);
    dt_bias = a.dt_bias[channel];
    skip = a.D[channel];
    VIMDEPLOY_UNROLL
    for (int n = 0; n < kStateGroup; ++n) {
      decay[n] = a.decay_of(channel, first + (n < last ? n : last));
      h[n] = 0.0f;
    }
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesAhead; ++i) {
      const int n = lane % kLanes + i * kLanes;
      column[i] = a.rank + first + (n < last ? n : last);
      share[i] = n < last ? 1.0f : 1.0f / static_cast<float>(kStateGroup - last);
    }
    for (int r = 0; r < a.rank; ++r) weights[r * kChannelTile + lane] = to_float(a.dt_weight[channel * a.rank + r]);
  }

  // The row of dt_bc that the thread stages of a tile, and whether it is inside the chunk.
  VIMDEPLOY_HD const T* row_of(const ScanArguments<T>& a, int tile) const {
    return rows + static_cast<int64_t>(tile * kTokenTile + lane / kLanes) * (a.rank + 2 * a.states);
  }
  VIMDEPLOY_HD bool has_row(const Area& area, int tile) const {
    return tile * kTokenTile + lane / kLanes < area.tokens;
  }

  // Starts loading a tile.
  VIMDEPLOY_HD void load(const ScanArguments<T>& a, const Area& area, int tile) {
    const T* row = row_of(a, tile);
    const bool is_there = has_row(area, tile);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kRankAhead; ++i) {
      const int r = lane % kLanes + i * kLanes;
      next_rank[i] = is_there && r < a.rank ? row[r] : T{};
    }
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesAhead; ++i) {
      next_b[i] = is_there ? row[column[i]] : T{};
      next_c[i] = is_there ? row[column[i] + a.states] : T{};
    }
    const T* first = u + static_cast<int64_t>(tile) * kTokenTile * a.channels;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) {
      const int t = i ^ flip;
      next_u[i] = tile * kTokenTile + t < area.tokens ? first[static_cast<int64_t>(t) * a.channels] : T{};
    }
  }

  // Writes what load() brought of the rows to shared memory, in the order of the walk.
  VIMDEPLOY_HD void stage(const ScanArguments<T>& a, const Area& area, int tile, float* staged) const {
    const int slot = lane / kLanes ^ flip;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kRankAhead; ++i) {
      const int r = lane % kLanes + i * kLanes;
      if (r < a.rank) staged[r * kTokenTile + slot] = to_float(next_rank[i]);
    }
    const T* row = row_of(a, tile);
    for (int r = lane % kLanes + kRankAhead * kLanes; r < a.rank; r += kLanes)
      staged[r * kTokenTile + slot] = has_row(area, tile) ? to_float(row[r]) : 0.0f;
    float* states = staged + a.rank * kTokenTile + slot * kStateRow;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesAhead; ++i) {
      const int n = lane % kLanes + i * kLanes;
      states[n] = to_float(next_b[i]);
      states[kStateGroup + n] = to_float(next_c[i]) * share[i];
    }
  }

  // The step sizes of a tile's slots, 0 beyond the chunk's end.
  VIMDEPLOY_HD void step_sizes(const ScanArguments<T>& a, const Area& area, int tile, const float* staged,
                               const float* weights, float (&dt)[kTokenTile]) const {
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) dt[i] = dt_bias;
    for (int r = 0; r < a.rank; ++r) {
      const float weight = weights[r * kChannelTile + lane];
      float low[4], high[4];
      load4(staged + r * kTokenTile, low);
      load4(staged + r * kTokenTile + 4, high);
      VIMDEPLOY_UNROLL
      for (int i = 0; i < 4; ++i) {
        dt[i] += weight * low[i];
        dt[i + 4] += weight * high[i];
      }
    }
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) {
      const bool is_there = tile * kTokenTile + (i ^ flip) < area.tokens;
      dt[i] = is_there ? softplus(dt[i]) : 0.0f;
    }
  }

  // h = exp(dt * A) * h + dt * u * B for one token, whose B and C are at `states`; returns the sum of C * h.
  VIMDEPLOY_HD float step(float dt, float dt_u, const float* states) {
    float sum = 0.0f;
    VIMDEPLOY_UNROLL
    for (int n = 0; n < kStateGroup; n += 4) {
      float b[4], c[4];
      load4(states + n, b);
      load4(states + kStateGroup + n, c);
      VIMDEPLOY_UNROLL
      for (int m = 0; m < 4; ++m) {
        const float x = dt * decay[n + m];
        const float kept = n + m < kPolynomialStates ? exp2_polynomial(x) : exp2_special(x);
        h[n + m] = kept * h[n + m] + dt_u * b[m];
        sum += h[n + m] * c[m];
      }
    }
    return sum;
  }
};

}  // namespace vimdeploy::cuda
