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
#include "scan/cuda/warp_product.h"
#include "scan/element.h"
#include "scan/host_device.h"

namespace vimdeploy::cuda {

// The shared memory of a thread group.
struct GroupSharedMemory {
  float* rows;     // two tiles: double-buffered
  float* weights;  // of the low rank

  VIMDEPLOY_HD GroupSharedMemory(const SharedLayout& layout, float* shared, int group, const ScanArguments& a,
                                 int64_t bytes_of_element)
      : rows(shared + layout.rows + group * 2 * tile_floats(bytes_of_element, a.rank)),
        weights(shared + layout.weights + group * weight_floats(bytes_of_element, a.rank)) {}
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
  static constexpr bool kMultipliesByWarp = kHasLowRank && multiplies_by_warp(sizeof(T));

  // Numbers of a slot, of all channels of the thread.
  using Slot = Packed<T, kChannels>;

  // Lanes that stage one token together, and how many numbers of its low rank, unless kMultipliesByWarp, each of them
  // prefetches into registers: enough for R = 48. A larger rank is loaded without prefetch. Up to R = 16, kRankCommon
  // of them are enough, and one branch skips the others.
  static constexpr int kLanes = Kind::kGroupThreads / kTokenTile;
  static constexpr int kRankPrefetch = kMultipliesByWarp ? 1 : 48 / kLanes;
  static constexpr int kRankCommon = 16 / kLanes;
  static constexpr int kStatesPerLane = kStates < kLanes ? 1 : kStates / kLanes;

  // Products of the low rank whose ranks are prefetched: enough for R = 48, or for R = 32 with one channel, for which
  // three would take a few registers too many.
  static constexpr int kProductsPrefetched = kChannels == 2 ? 3 : 2;

  int lane;          // index in the thread group
  int reverse_mask;  // slot ^ reverse_mask is the token in a tile: 0, or kTokenTile - 1 if reversed
  int slot_stride;   // elements from u of a slot to u of the next one, negative if reversed
  const T* u;        // the thread's first channel, at the first token of the extent
  const T* delta;    // the same, unless kHasLowRank
  const T* row;      // of B, the row that the thread stages of the next tile; if kIsOneRow, of the low rank, B and C
  const T* c_row;    // of C and of the low rank, unless kIsOneRow
  const T* rank_row;
  float* staged;   // rows in shared memory, two tiles
  float* weights;  // of the thread's channels, kChannelTile apart; if kMultipliesByWarp, its part of the products'
  float dt_bias[kChannels], skip[kChannels];
  float decay[kChannels][kStates];  // A * log2(e)
  float h[kChannels][kStates];
  float dt[kChannels][kTokenTile];  // of the tile's slots
  float dt_sum[kChannels];          // of the step sizes so far

  // The product of weights (channels x ranks) and low rank (ranks x slots), if kMultipliesByWarp. Row g of tile t
  // belongs to channel 2 * (kTiles * g + t) of the warp, row g + 8 to the next one: so the quad of lanes that has a row
  // of sums has those of its own channels, and only exchanges them.
  WarpProduct<2 * kChannels> product;

  int first_column;  // of B in `row`, of the subscan
  int last_state;    // of the group: those after it are padding

  // Prefetched for the next tile.
  Slot next_u[kTokenTile];
  Slot next_delta[kTokenTile];
  Packed<T, 1> next_rank[kRankPrefetch];
  uint32_t next_ranks[kProductsPrefetched][2];  // the same as product.b
  Packed<T, 1> next_b[kStatesPerLane], next_c[kStatesPerLane];

  // Begins a scan with states of zero. begin_walk() must follow.
  VIMDEPLOY_HD void begin_scan(const ScanArguments& a, const BlockExtent& extent, int subscan, int lane_,
                               const GroupSharedMemory& shared) {
    lane = lane_;
    const int k = subscan % a.directions, first_state = subscan / a.directions * kStates;
    last_state = (a.states - first_state < kStates ? a.states - first_state : kStates) - 1;
    const int e = extent.template channel_of<Kind>(a, lane);
    const int64_t channel = static_cast<int64_t>(k) * a.channels + e;
    reverse_mask = a.is_reversed(subscan) * (kTokenTile - 1);
    slot_stride = token_step() * a.channels;
    u = a.u.at<T>(k, extent.b, extent.begin) + e;
    const int staged_tile = extent.begin + tile_at(extent, 0) * kTokenTile, staged_token = staged_tile + staged_row();
    if constexpr (kIsOneRow) {
      row = a.delta.at<T>(k, extent.b, staged_token);
    } else {
      row = a.B.at<T>(k, extent.b, staged_token);
      c_row = a.C.at<T>(k, extent.b, staged_token);
      if constexpr (kHasLowRank) {
        rank_row = a.delta.at<T>(k, extent.b, kMultipliesByWarp ? staged_tile + product_row() : staged_token);
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
      load_decay(a, a.A + (channel + i) * a.states + first_state, decay[i]);
      VIMDEPLOY_UNROLL
      for (int n = 0; n < kStates; ++n) h[i][n] = 0.0f;
    }
    first_column = (kIsOneRow ? a.rank : 0) + first_state;
    if constexpr (kMultipliesByWarp) {
      load_product_weights(a, extent, k, shared.weights);
    } else if constexpr (kHasLowRank) {
      stage_weights(a, static_cast<const T*>(a.delta_weight) + channel * a.rank);
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
    Slot current_u[kTokenTile];
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) current_u[i] = next_u[i];
    finish_dt(a, states + kTokenTile * kStateRow, valid_tokens(extent, tile_at(extent, step)));
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

  // Phases of make_step_sizes(). First, for each product: its factors.
  VIMDEPLOY_HD void begin_product(const ScanArguments& a, int i, const uint32_t (&ranks)[2]) {
    VIMDEPLOY_UNROLL
    for (int t = 0; t < product.kTiles; ++t) {
      if (a.rank > kInner) load_words(product_weights(i, t), product.a[t]);
      VIMDEPLOY_UNROLL
      for (int n = 0; i == 0 && n < 4; ++n) product.sum[t][n] = 0.0f;
    }
    product.b[0] = ranks[0], product.b[1] = ranks[1];
  }
  VIMDEPLOY_HD void begin_late_product(const ScanArguments& a, const BlockExtent& extent, int step, int i) {
    uint32_t ranks[2];
    const T* row_of_step = low_rank_row(a) - tile_step() * static_cast<int>(a.delta.token);  // it is a tile ahead
    load_ranks(a, row_of_step, valid_tokens(extent, tile_at(extent, step)), i, ranks);
    begin_product(a, i, ranks);
  }

  // Then the exchange between the lanes of a quad, of the channels in rows 0 to 7 (half 0) and in rows 8 to 15 (half
  // 1). Its memory is that of the rows which the same warp will stage of the next tile. A place is two floats, of two
  // slots of a channel; the exclusive or spreads those that a warp writes or reads at once over the banks.
  VIMDEPLOY_HD void give_sums(const ScanArguments& a, int step, int half) const {
    const int column = remainder(lane, 4);
    VIMDEPLOY_UNROLL
    for (int t = 0; t < product.kTiles; ++t) {
      const float sums[2] = {product.sum[t][2 * half], product.sum[t][2 * half + 1]};
      store(sums, exchange(a, step, product.kTiles * quotient(warp_lane(), 4) + t, column));
    }
  }
  VIMDEPLOY_HD void take_sums(const ScanArguments& a, int step, int half) {
    if (kChannels == 1 && lane % 2 != half) return;
    VIMDEPLOY_UNROLL
    for (int pair = 0; pair < kTokenTile / 2; ++pair) {
      float sums[2];
      load(exchange(a, step, quotient(warp_lane() * kChannels, 2), pair), sums);
      VIMDEPLOY_UNROLL
      for (int i = 0; i < 2; ++i) dt[kChannels == 1 ? 0 : half][2 * pair + i] = sums[i];
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
  // Whether softplus is left to each token. The gated form always has it; the others ask once a tile whether they do.
  static constexpr bool kIsSoftplusLast = Kind::kForm == Form::gated;

  // Which slot of a tile the thread stages, the token of it, and the first column.
  VIMDEPLOY_HD int lane_row() const { return quotient(lane, kLanes); }
  VIMDEPLOY_HD int staged_row() const { return lane_row() ^ reverse_mask; }
  VIMDEPLOY_HD int lane_column() const { return remainder(lane, kLanes); }

  // Whether the thread stages states: with fewer than kLanes, some threads stage none.
  VIMDEPLOY_HD bool stages_states() const { return kStates >= kLanes || lane_column() < kStates; }

  // The buffer of a step's tile in shared memory.
  VIMDEPLOY_HD float* staged_tile(const ScanArguments& a, int step) const {
    return staged + step % 2 * tile_floats(sizeof(T), a.rank);
  }

  // Where the sums of two slots are exchanged, for one of the 16 * kChannels channels of a half.
  VIMDEPLOY_HD float* exchange(const ScanArguments& a, int step, int channel, int pair) const {
    static_assert(kWarp / kLanes * kStateRow >= kTokenTile * 16 * kChannels, "a warp stages fewer floats");
    float* first = staged_tile(a, step + 1) + quotient(lane, kWarp) * (kWarp / kLanes * kStateRow);
    return first + 2 * (pair * (16 * kChannels) + (channel ^ pair));
  }

  // Whether the row that the thread stages of a tile is in the chunk.
  VIMDEPLOY_HD bool has_row(const BlockExtent& extent, int tile) const {
    return staged_row() < valid_tokens(extent, tile);
  }

  // The row of the low rank that the thread loads of the next tile.
  VIMDEPLOY_HD const T* low_rank_row(const ScanArguments& a) const {
    if constexpr (!kIsOneRow) return rank_row;
    // With two channels they are the same.
    if constexpr (!kMultipliesByWarp || kChannels == 2) return row;
    return row + (product_row() - staged_row()) * static_cast<int>(a.delta.token);
  }

  // The same of a product: its lane, the token of its column, and the warp's part of its weights.
  VIMDEPLOY_HD int warp_lane() const { return remainder(lane, kWarp); }
  VIMDEPLOY_HD int product_row() const { return quotient(warp_lane(), 4) ^ reverse_mask; }

  // From a tile's token to the same of the next tile.
  VIMDEPLOY_HD int64_t tile_step() const { return token_step() * kTokenTile; }

  // Goes on by so many tiles in the order of the scan.
  VIMDEPLOY_HD void move_rows(const ScanArguments& a, int tiles) {
    const int64_t tokens = tile_step() * tiles;
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
    if constexpr (kMultipliesByWarp) {
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kProductsPrefetched; ++i) {
        if (i * kInner >= a.rank) break;
        load_ranks(a, low_rank_row(a), valid_tokens(extent, tile), i, next_ranks[i]);
      }
    }
    if (!has_row(extent, tile)) return;
    if constexpr (kHasLowRank && !kMultipliesByWarp) {
      const T* first = low_rank_row(a) + lane_column();
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
      const int column = first_column + smaller_of(lane_column() + i * kLanes, last_state);
      next_b[i] = load_packed<1>(row + column);
      next_c[i] = load_packed<1>(kIsOneRow ? row + column + a.states : c_row + column);
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

  // Divides C of the last state, which the thread has staged, among the copies of it.
  VIMDEPLOY_HD void divide_padding(float* staged_c) const {
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kStatesPerLane; ++i) {
      if (lane_column() + i * kLanes >= last_state)
        staged_c[i * kLanes] *= reciprocal(static_cast<float>(kStates - last_state));
    }
  }

  // Writes what load_rows() prefetched to shared memory, in the order of the scan.
  VIMDEPLOY_HD void stage(const ScanArguments& a, const BlockExtent& extent, int tile, int step) const {
    if (stages_states()) {
      float* states = staged_tile(a, step) + lane_row() * kStateRow + lane_column();
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kStatesPerLane; ++i) {
        states[i * kLanes] = to_float(next_b[i], 0);
        states[kStates + i * kLanes] = to_float(next_c[i], 0);
      }
      if (last_state < kStates - 1) divide_padding(states + kStates);
    }
    if constexpr (!kHasLowRank || kMultipliesByWarp) return;
    float* ranks = staged_tile(a, step) + kTokenTile * kStateRow + lane_row();
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kRankPrefetch; ++i) {
      if (i == kRankCommon && a.rank <= kRankCommon * kLanes) return;
      const int r = lane_column() + i * kLanes;
      if (r < a.rank) ranks[r * kTokenTile] = to_float(next_rank[i], 0);
    }
    VIMDEPLOY_DO_NOT_UNROLL
    for (int r = lane_column() + kRankPrefetch * kLanes; r < a.rank; r += kLanes)
      ranks[r * kTokenTile] = has_row(extent, tile) ? to_float(low_rank_row(a)[r]) : 0.0f;
  }

  // Finishes the step sizes of a tile's slots, but for softplus if kIsSoftplusLast; those of padding are 0.
  VIMDEPLOY_HD void finish_dt(const ScanArguments& a, const float* rank_rows, int valid) {
    VIMDEPLOY_UNROLL
    for (int j = 0; j < kChannels; ++j) {
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kTokenTile; ++i) {
        const float first = !kHasLowRank ? to_float(next_delta[i], j) : kMultipliesByWarp ? dt[j][i] : 0.0f;
        dt[j][i] = dt_bias[j] + first;
      }
    }
    if constexpr (kHasLowRank && !kMultipliesByWarp) {
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

  // The states' decay from A, those of padding as the last one's.
  VIMDEPLOY_HD void load_decay(const ScanArguments& a, const float* rates, float (&of_state)[kStates]) const {
    if constexpr (kStates % 4 == 0) {
      if (a.states_in_fours && last_state == kStates - 1) {
        VIMDEPLOY_UNROLL
        for (int n = 0; n < kStates; n += 4) {
          float four[4];
          load(rates + n, four);
          VIMDEPLOY_UNROLL
          for (int m = 0; m < 4; ++m) of_state[n + m] = a.decay_of(four[m]);
        }
        return;
      }
    }
    VIMDEPLOY_UNROLL
    for (int n = 0; n < kStates; ++n) of_state[n] = a.decay_of(rates[smaller_of(n, last_state)]);
  }

  // Stages the weights of the thread's channels, kRanks at a time: their loads do not wait for each other.
  VIMDEPLOY_HD void stage_weights(const ScanArguments& a, const T* weight) const {
    constexpr int kRanks = 8;
    VIMDEPLOY_UNROLL
    for (int j = 0; j < kChannels; ++j) {
      VIMDEPLOY_DO_NOT_UNROLL
      for (int first = 0; first < a.rank; first += kRanks) {
        T few[kRanks];
        VIMDEPLOY_UNROLL
        for (int r = 0; r < kRanks; ++r) few[r] = weight[j * a.rank + (first + r < a.rank ? first + r : a.rank - 1)];
        VIMDEPLOY_UNROLL
        for (int r = 0; r < kRanks; ++r) {
          if (first + r < a.rank) weights[(first + r) * kChannelTile + j] = to_float(few[r]);
        }
      }
    }
  }

  // The thread's part of a row of product i: of its kInner numbers, the four from 4c on for lane c of a quad, zeros
  // beyond the rank. In which order the ranks are summed is free, as weights and low rank have the same.
  VIMDEPLOY_HD void load_part(const ScanArguments& a, const T* row_, int i, uint32_t (&part)[2]) const {
    const int first = i * kInner + remainder(lane, 4) * 4;
    part[0] = part[1] = 0;
    if (a.rank_in_fours) {
      if (first < a.rank) load_words(row_ + first, part);
      return;
    }
    VIMDEPLOY_UNROLL
    for (int r = 0; r < 4; ++r) {
      if (first + r < a.rank) part[r / 2] |= uint32_t{row_[first + r].bits} << r % 2 * 16;
    }
  }

  // The low rank of product i; zeros for padding.
  VIMDEPLOY_HD void load_ranks(const ScanArguments& a, const T* ranks_row, int valid, int i,
                               uint32_t (&ranks)[2]) const {
    ranks[0] = ranks[1] = 0;
    if (product_row() < valid) load_part(a, ranks_row, i, ranks);
  }

  // The weights: those of one product stay in registers, those of several are kept in shared memory, where a thread
  // finds its own part of them.
  VIMDEPLOY_HD void load_product_weights(const ScanArguments& a, const BlockExtent& extent, int k, float* shared) {
    constexpr int kTiles = WarpProduct<2 * kChannels>::kTiles;
    weights = shared + lane * 4;
    const int warp_channel = extent.channel + quotient(lane, kWarp) * (kWarp * kChannels);
    VIMDEPLOY_DO_NOT_UNROLL
    for (int i = 0; i * kInner < a.rank; ++i) {
      VIMDEPLOY_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        VIMDEPLOY_UNROLL
        for (int half = 0; half < 2; ++half) {
          int e = warp_channel + 2 * (kTiles * quotient(warp_lane(), 4) + t) + half;
          e = e < a.channels ? e : a.channels - 1;
          uint32_t part[2];
          load_part(a, static_cast<const T*>(a.delta_weight) + (static_cast<int64_t>(k) * a.channels + e) * a.rank, i,
                    part);
          product.a[t][half] = part[0], product.a[t][half + 2] = part[1];
        }
        if (a.rank > kInner) store_words(product.a[t], product_weights(i, t));
      }
    }
  }

  VIMDEPLOY_HD float* product_weights(int i, int t) const {
    return weights + i * (kChannelTile * kInner / 2) + t * (Kind::kGroupThreads * 4);
  }

  // h = exp(dt * A) * h + dt * u * B for one token, whose B and C are at `states`; adds the sum of C * h to y.
  VIMDEPLOY_HD void advance_token(const float (&dt_i)[kChannels], const float (&dt_u)[kChannels], const float* states,
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
          state = exp2_special(dt_i[j] * decay[j][n + m]) * state + dt_u[j] * b[m];
          y[j] += state * c[m];
        }
      }
    }
  }
};

// Makes the step sizes of a step's tile, but for what advance() finishes: a warp's threads do it together. Their
// registers have the ThreadScan as `scan`.
template <typename Kind, typename Warp>
VIMDEPLOY_HD void make_step_sizes(Warp& warp, const ScanArguments& a, const BlockExtent& extent, int step) {
  using Scan = ThreadScan<Kind>;
  if constexpr (Scan::kMultipliesByWarp) {
    const auto multiply = [&] {
      warp.template multiply<typename Kind::Element>([](auto& r) -> auto& { return r.scan.product; });
    };
    VIMDEPLOY_UNROLL
    for (int i = 0; i < Scan::kProductsPrefetched; ++i) {
      if (i * kInner >= a.rank) break;
      warp.each([&](int, auto& r) { r.scan.begin_product(a, i, r.scan.next_ranks[i]); });
      multiply();
    }
    VIMDEPLOY_DO_NOT_UNROLL
    for (int i = Scan::kProductsPrefetched; i * kInner < a.rank; ++i) {
      warp.each([&](int, auto& r) { r.scan.begin_late_product(a, extent, step, i); });
      multiply();
    }
    VIMDEPLOY_UNROLL
    for (int half = 0; half < 2; ++half) {
      warp.each([&](int, auto& r) { r.scan.give_sums(a, step, half); });
      warp.each([&](int, auto& r) { r.scan.take_sums(a, step, half); });
    }
  }
}

}  // namespace vimdeploy::cuda
