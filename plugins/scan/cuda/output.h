// The text of the scan's CUDA kernels, second part: the outputs of a block's channels and tokens. `Team` is the block's
// threads: team.each(phase) runs phase(thread, its registers) for every one of them and ends with a barrier. On a
// device each thread runs its own share; on a host a test runs all of them in turn, in any order.
//
// Counted for a token and channel of Vim (K = 2, N = 16, R = 12, float16): 12 bytes of u, z and y in global memory, and
// dt_bc's row once for kChannelTile channels; 32 exponentials of the states, 2 of the step sizes, 1 and a reciprocal of
// the gate. Regime `chunks` reads u, dt_bc and makes the states' and the step sizes' exponentials twice.

#pragma once

#include "scan/cuda/walk.h"

namespace vimdeploy::cuda {

template <typename T>
struct OutputRegisters {
  Walk<T> walk;
  T u[kTokenTile];      // of the tile that is worked on
  T z[kTokenTile];      // the same
  float y[kTokenTile];  // of the thread's item alone
};

// The outputs of an area. In each pass two groups of threads walk two items, and meet: of the two, who comes to a tile
// first leaves its y in the buffer of sums; who comes second, a barrier later, takes the sum on, and in the last pass
// gates it and stores it. Each sum belongs to one pair of threads.
template <typename T>
class OutputBlock {
 public:
  VIMDEPLOY_HD OutputBlock(const ScanArguments<T>& a, unsigned block, float* shared)
      : a_(a),
        area_(a, static_cast<int>(block / a.channel_tiles / a.chunks),
              static_cast<int>(block / a.channel_tiles % a.chunks), static_cast<int>(block % a.channel_tiles)),
        passes_((a.items + kGroups - 1) / kGroups),
        rows_(shared) {
    const SharedLayout layout = shared_layout(groups_of(a.items), a.rank, 0);
    weights_ = shared + layout.weights;
    if (a.sums_in_shared) {
      sums_ = shared + layout.sums;
      sums_row_ = kChannelTile;
    } else {
      sums_ = a.sums + (static_cast<int64_t>(area_.b) * a.tokens + area_.begin) * a.channels + area_.channel;
      sums_row_ = a.channels;
    }
  }

  VIMDEPLOY_HD int passes() const { return passes_; }
  VIMDEPLOY_HD int steps() const { return area_.tiles; }

  // Phase: begins the items of a pass, with the first tile staged.
  VIMDEPLOY_HD void enter(int thread, int pass, OutputRegisters<T>& r) const {
    const int group = thread / kChannelTile, item = pass * kGroups + group;
    if (item >= a_.items) return;
    r.walk.enter(a_, area_, item, thread % kChannelTile, weights_of(group));
    if (a_.chunks > 1) {
      const float* states = entry_states(item) + e_of(r);
      VIMDEPLOY_UNROLL
      for (int n = 0; n < kStateGroup; ++n) r.walk.h[n] = states[static_cast<int64_t>(n) * a_.channels];
    }
    const int tile = r.walk.tile_at(area_, 0);
    r.walk.load(a_, area_, tile);
    r.walk.stage(a_, area_, tile, rows_of(group, 0));
  }

  // Phase: y of the step's tile; the next tile is loaded meanwhile, and staged.
  VIMDEPLOY_HD void advance(int thread, int pass, int step, OutputRegisters<T>& r) const {
    const int group = thread / kChannelTile;
    if (pass * kGroups + group >= a_.items) return;
    const Meeting meeting = meeting_of(group, pass, step);
    const int tile = r.walk.tile_at(area_, step);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) r.u[i] = r.walk.next_u[i];
    if (step + 1 < area_.tiles) r.walk.load(a_, area_, r.walk.tile_at(area_, step + 1));
    if (meeting.is_second && pass + 1 == passes_) load_z(r, tile);

    const float* staged = rows_of(group, step);
    const float* states = staged + a_.rank * kTokenTile;
    const bool has_skip = r.walk.item < a_.directions;  // D belongs to the first group of states
    float dt[kTokenTile];
    r.walk.step_sizes(a_, area_, tile, staged, weights_of(group), dt);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) {
      const float u = to_float(r.u[i]);
      const float skipped = has_skip ? r.walk.skip * u : 0.0f;
      r.y[i] = skipped + r.walk.step(dt[i], dt[i] * u, states + i * kStateRow);
    }

    if (step + 1 < area_.tiles) r.walk.stage(a_, area_, r.walk.tile_at(area_, step + 1), rows_of(group, step + 1));
    if (!meeting.is_second) {
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kTokenTile; ++i) {
        if (!is_mine(r, tile, i)) continue;
        float& sum = sums_[sum_index(r, tile, i)];
        sum = pass > 0 ? sum + r.y[i] : r.y[i];
      }
    }
  }

  // Phase, after the barrier that ends advance(): the tiles that the group came to as the second.
  VIMDEPLOY_HD void finish(int thread, int pass, int step, OutputRegisters<T>& r) const {
    const int group = thread / kChannelTile;
    if (pass * kGroups + group >= a_.items) return;
    const Meeting meeting = meeting_of(group, pass, step);
    if (!meeting.is_second) return;
    const int tile = r.walk.tile_at(area_, step);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) {
      if (!is_mine(r, tile, i)) continue;
      const int64_t index = sum_index(r, tile, i);
      const float sum = meeting.has_sum ? sums_[index] + r.y[i] : r.y[i];
      if (pass + 1 < passes_) {
        sums_[index] = sum;
      } else {
        a_.y[token_of(r, tile, i) * a_.channels + e_of(r)] = from_float<T>(a_.scale * silu(to_float(r.z[i])) * sum);
      }
    }
  }

 private:
  struct Meeting {
    bool is_second;  // or alone
    bool has_sum;    // something was left in the buffer
  };

  VIMDEPLOY_HD Meeting meeting_of(int group, int pass, int step) const {
    const int item = pass * kGroups + group, other = item ^ 1;
    if (other >= a_.items) return {true, pass > 0};
    const bool same_way = a_.is_reversed(item) == a_.is_reversed(other);
    const int other_step = same_way ? step : area_.tiles - 1 - step;
    return {other_step < step || (other_step == step && group == 1), true};
  }

  VIMDEPLOY_HD float* rows_of(int group, int step) const {
    return rows_ + (group * 2 + step % 2) * tile_floats(a_.rank);
  }
  VIMDEPLOY_HD float* weights_of(int group) const { return weights_ + group * a_.rank * kChannelTile; }

  VIMDEPLOY_HD const float* entry_states(int item) const {
    const int64_t chunk = (static_cast<int64_t>(item) * a_.batch + area_.b) * a_.chunks + area_.chunk;
    return a_.chunk_states + chunk * kStateGroup * a_.channels;
  }

  VIMDEPLOY_HD int e_of(const OutputRegisters<T>& r) const {
    const int e = area_.channel + r.walk.lane;
    return e < a_.channels ? e : a_.channels - 1;
  }
  // Of the batch's tokens.
  VIMDEPLOY_HD int64_t token_of(const OutputRegisters<T>& r, int tile, int slot) const {
    return static_cast<int64_t>(area_.b) * a_.tokens + area_.begin + tile * kTokenTile + (slot ^ r.walk.flip);
  }
  VIMDEPLOY_HD int64_t sum_index(const OutputRegisters<T>& r, int tile, int slot) const {
    return (tile * kTokenTile + (slot ^ r.walk.flip)) * sums_row_ + r.walk.lane;
  }
  VIMDEPLOY_HD bool is_inside(const OutputRegisters<T>& r, int tile, int slot) const {
    return tile * kTokenTile + (slot ^ r.walk.flip) < area_.tokens;
  }
  VIMDEPLOY_HD bool is_mine(const OutputRegisters<T>& r, int tile, int slot) const {
    return is_inside(r, tile, slot) && area_.channel + r.walk.lane < a_.channels;
  }

  VIMDEPLOY_HD void load_z(OutputRegisters<T>& r, int tile) const {
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) {
      const T* z = a_.xz + token_of(r, tile, i) * 2 * a_.channels + a_.channels + e_of(r);
      r.z[i] = is_inside(r, tile, i) ? *z : T{};
    }
  }

  const ScanArguments<T>& a_;
  Area area_;
  int passes_;
  float* rows_;
  float* weights_;
  float* sums_;
  int64_t sums_row_;
};

template <typename T>
VIMDEPLOY_HD int64_t output_blocks(const ScanArguments<T>& a) {
  return static_cast<int64_t>(a.batch) * a.chunks * a.channel_tiles;
}

template <typename T, typename Team>
VIMDEPLOY_HD void output_block(Team& team, const ScanArguments<T>& a, unsigned index, float* shared) {
  const OutputBlock<T> block(a, index, shared);
  for (int pass = 0; pass < block.passes(); ++pass) {
    team.each([&](int thread, OutputRegisters<T>& r) { block.enter(thread, pass, r); });
    for (int step = 0; step <= block.steps(); ++step) {
      team.each([&](int thread, OutputRegisters<T>& r) {
        if (step > 0) block.finish(thread, pass, step - 1, r);
        if (step < block.steps()) block.advance(thread, pass, step, r);
      });
    }
  }
}

}  // namespace vimdeploy::cuda
