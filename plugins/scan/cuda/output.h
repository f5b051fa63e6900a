// The text of the scan's CUDA kernels, second part: the outputs of a block's channels and tokens. `Team` is the block's
// threads: team.each(phase) runs phase(thread, its registers) for every one of them and ends with a barrier. On a
// device each thread runs its own share; on a host a test runs all of them in turn, in any order.
//
// Counted for a token and channel of Vim (K = 2, N = 16, R = 12, float16): 12 bytes of u, xz and y in global memory,
// and dt_bc's rows once for kChannelTile channels; 32 exponentials of the states, 2 of the step sizes, 1 and a
// reciprocal of the gate. Regime `chunks` reads u and dt_bc twice and computes the first 34 exponentials twice.
//
// A warp issues 198 instructions for a token of one direction (sm_90), while its 18 special functions take 144 clocks
// of their unit: no exponential is moved to the multiply-add units, where one by polynomial takes 12 instructions more.

#pragma once

#include "scan/cuda/walk.h"

namespace vimdeploy::cuda {

template <typename T>
struct OutputRegisters {
  Walk<T> walk;
  int group;        // of the block's, or -1: without an item in this pass
  int second_from;  // the step from which on the group comes second to its tiles
  Held<T> z[kTokenTile];
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
        area_(a, block / a.channel_tiles / a.chunks, static_cast<int>(block / a.channel_tiles % a.chunks),
              static_cast<int>(block % a.channel_tiles)),
        passes_((a.items + kGroups - 1) / kGroups),
        layout_(shared_layout(groups_of(a.items), a.rank, 0)),
        shared_(shared) {
    sums_ = a.sums_in_shared ? shared + layout_.sums : a.sums + area_.first_token(a) * a.channels + area_.channel;
    sums_row_ = a.sums_in_shared ? kChannelTile : a.channels;
  }

  VIMDEPLOY_HD int passes() const { return passes_; }
  VIMDEPLOY_HD int steps() const { return area_.tiles; }

  // Phase: begins the items of a pass, with the first tile staged.
  VIMDEPLOY_HD void enter(int thread, int pass, OutputRegisters<T>& r) const {
    const int group = quotient(thread, kChannelTile), item = pass * kGroups + group;
    r.group = item < a_.items ? group : -1;
    if (r.group < 0) return;
    r.second_from = second_from(pass, group);
    r.walk.enter(a_, area_, item, remainder(thread, kChannelTile), memory_of(r));
    if (a_.chunks > 1) {
      const int64_t chunk = (static_cast<int64_t>(item) * a_.batch + area_.b) * a_.chunks + area_.chunk;
      const float* states = a_.chunk_states + chunk * kStateGroup * a_.channels + area_.channel_of(a_, r.walk.lane);
      VIMDEPLOY_UNROLL
      for (int n = 0; n < kStateGroup; ++n) r.walk.h[n] = states[static_cast<int64_t>(n) * a_.channels];
    }
  }

  // Phase: y of the step's tile.
  VIMDEPLOY_HD void advance(int pass, int step, OutputRegisters<T>& r) const {
    if (r.group < 0) return;
    const int tile = r.walk.tile_at(area_, step);
    const unsigned there = r.walk.slots_there(area_, tile);
    const bool is_second = step >= r.second_from;
    if (is_second && pass + 1 == passes_) load_z(r, tile, there);
    r.walk.advance(a_, area_, step, memory_of(r), r.y);
    if (is_second) return;
    const Slots<float> sums = sums_of(r, tile);
    const unsigned stored = stored_slots(r, there);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) {
      if (stored >> i & 1) sums.at(i) = pass > 0 ? sums.at(i) + r.y[i] : r.y[i];
    }
  }

  // Phase, after the barrier that ends advance(): the tile of that step, if the group came to it second.
  VIMDEPLOY_HD void finish(int pass, int step, OutputRegisters<T>& r) const {
    if (r.group < 0 || step < r.second_from) return;
    const int tile = r.walk.tile_at(area_, step);
    const unsigned stored = stored_slots(r, r.walk.slots_there(area_, tile));
    const Slots<float> sums = sums_of(r, tile);
    if (pass > 0 || has_two(pass)) {
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kTokenTile; ++i) {
        if (stored >> i & 1) r.y[i] += sums.at(i);
      }
    }
    if (pass + 1 < passes_) {
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kTokenTile; ++i) {
        if (stored >> i & 1) sums.at(i) = r.y[i];
      }
    } else {
      const Slots<T> y = slots_of(a_.y, a_.channels, 0, r, tile);
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kTokenTile; ++i) {
        const T gated = from_float<T>(a_.scale * silu(to_float(r.z[i])) * r.y[i]);
        if (stored >> i & 1) y.at(i) = gated;
      }
    }
  }

 private:
  // Places of a tile's slots.
  template <typename Element>
  struct Slots {
    Element* first;
    int apart;

    VIMDEPLOY_HD Element& at(int slot) const { return first[slot * apart]; }
  };

  // In rows of the batch's tokens, for the thread's channel and that many more.
  template <typename Element>
  VIMDEPLOY_HD Slots<Element> slots_of(Element* tokens, int row, int further, const OutputRegisters<T>& r,
                                       int tile) const {
    const int64_t token = area_.first_token(a_) + r.walk.first_token(tile);
    return {tokens + token * row + further + area_.channel_of(a_, r.walk.lane), r.walk.token_step() * row};
  }

  VIMDEPLOY_HD Slots<float> sums_of(const OutputRegisters<T>& r, int tile) const {
    return {sums_ + static_cast<int64_t>(r.walk.first_token(tile)) * sums_row_ + r.walk.lane,
            r.walk.token_step() * sums_row_};
  }

  VIMDEPLOY_HD void load_z(OutputRegisters<T>& r, int tile, unsigned there) const {
    const Slots<const T> z = slots_of(a_.xz, 2 * a_.channels, a_.channels, r, tile);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) r.z[i] = there >> i & 1 ? held<T>(z.at(i)) : Held<T>{};
  }

  VIMDEPLOY_HD bool has_two(int pass) const { return pass * kGroups + 1 < a_.items; }

  // Who is alone comes second to all tiles. Of two that walk the same way, group 1 does; of two that walk towards each
  // other, both do from the middle on, and to the tile in the middle, which they reach at once, group 1 does.
  VIMDEPLOY_HD int second_from(int pass, int group) const {
    if (!has_two(pass)) return 0;
    const int item = pass * kGroups;
    if (a_.is_reversed(item) == a_.is_reversed(item + 1)) return group == 1 ? 0 : area_.tiles;
    return group == 1 ? area_.tiles / 2 : (area_.tiles + 1) / 2;
  }

  VIMDEPLOY_HD unsigned stored_slots(const OutputRegisters<T>& r, unsigned there) const {
    return area_.channel + r.walk.lane < a_.channels ? there : 0;
  }

  VIMDEPLOY_HD GroupMemory memory_of(const OutputRegisters<T>& r) const {
    return GroupMemory(layout_, shared_, r.group, a_.rank);
  }

  const ScanArguments<T>& a_;
  Area area_;
  int passes_;
  SharedLayout layout_;
  float* shared_;
  float* sums_;
  int sums_row_;
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
      team.each([&](int, OutputRegisters<T>& r) {
        if (step > 0) block.finish(pass, step - 1, r);
        if (step < block.steps()) block.advance(pass, step, r);
      });
    }
  }
}

}  // namespace vimdeploy::cuda
