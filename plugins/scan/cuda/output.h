// The text of the scan's CUDA kernels, second part: the outputs of a block's channels and tokens. `Team` is the block's
// threads: team.each(phase) runs phase(thread, its registers) for every one of them and ends with a barrier. On a
// device each thread runs its own share; on a host a test runs all of them in turn, in any order.
//
// Counted for a token and channel of Vim (K = 2, N = 16, R = 12, float16): 8.5 bytes in global memory (4 of u, 2 of z,
// 2 of y, 0.5 of dt_bc, whose rows other channel tiles find in the cache); 32 exponentials of the states, 2 of the step
// sizes, 1 and a reciprocal of the gate. Regime `chunks` reads u and dt_bc twice and computes the first 34 exponentials
// twice.
//
// A warp issues 156 instructions for a token of one direction: those that it passes in the disassembled loop
// (nvcc 13.0, sm_90) at a whole tile that it comes to first and at one that it comes to second, divided by 16. 88 are
// the states', 31 the step size's, 6 the gate's. Its 18 special functions take 144 clocks of their unit: no exponential
// is moved to the multiply-add units, where one by polynomial takes 12 instructions more.

#pragma once

#include "scan/cuda/walk.h"

namespace vimdeploy::cuda {

template <typename T>
struct OutputRegisters {
  Walk<T> walk;
  int group;        // of the block's, or -1: without an item in this pass
  int second_from;  // the step from which on the group comes second to its tiles
  const T* z;       // this and the next two: the channel's, at the area's first token
  T* out;
  float* sums;
  float y[kTokenTile];     // of the thread's item alone
  float gate[kTokenTile];  // scale * silu(z), of a tile that the group finishes
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
    const int64_t channel_tile = static_cast<int64_t>(area_.b) * a.channel_tiles + block % a.channel_tiles;
    sums_ = a.sums_in_shared ? shared + layout_.sums
                             : a.sums + (channel_tile * tokens_of_sums(a.tokens) + area_.begin) * kChannelTile;
  }

  VIMDEPLOY_HD int passes() const { return passes_; }
  VIMDEPLOY_HD int steps() const { return area_.tiles; }

  // Phase: begins the items of a pass, with the first tile staged.
  VIMDEPLOY_HD void enter(int thread, int pass, OutputRegisters<T>& r) const {
    const int group = quotient(thread, kChannelTile), item = pass * kGroups + group;
    r.group = item < a_.items ? group : -1;
    if (r.group < 0) return;
    r.second_from = second_from(pass, group);
    r.walk.enter(a_, area_, item, remainder(thread, kChannelTile), GroupMemory(layout_, shared_, group, a_.rank));
    const int64_t token = area_.first_token(a_);
    r.z = a_.xz + (2 * token + 1) * a_.channels + area_.channel_of(a_, r.walk.lane);
    r.out = a_.y + token * a_.channels + area_.channel_of(a_, r.walk.lane);
    r.sums = sums_ + r.walk.lane * 4;
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
    const bool is_second = step >= r.second_from, is_gated = is_second && pass + 1 == passes_;
    Held<T> z[kTokenTile];
    if (is_gated) load_z(r, tile, z);
    r.walk.advance(a_, area_, step, r.y);
    if (is_gated) {
      VIMDEPLOY_UNROLL
      for (int i = 0; i < kTokenTile; ++i) r.gate[i] = a_.scale * silu(to_float(z[i]));
    }
    if (is_second) return;
    if (pass > 0) add_sums(r, tile);
    store_sums(r, tile);
  }

  // Phase, after the barrier that ends advance(): the tile of that step, if the group came to it second.
  VIMDEPLOY_HD void finish(int pass, int step, OutputRegisters<T>& r) const {
    if (r.group < 0 || step < r.second_from) return;
    const int tile = r.walk.tile_at(area_, step);
    if (pass > 0 || has_two(pass)) add_sums(r, tile);
    if (pass + 1 < passes_) return store_sums(r, tile);
    const int there = area_.channel + r.walk.lane < a_.channels ? r.walk.tokens_there(area_, tile) : 0;
    const Slots<T> y = slots_of(r.out, 1, r.walk, tile);
    r.walk.each_slot(there, [&](int i) { y.at(i) = from_float<T>(r.gate[i] * r.y[i]); });
  }

 private:
  // Places of a tile's slots, in rows of the batch's tokens.
  template <typename Element>
  struct Slots {
    Element* first;
    int apart;

    VIMDEPLOY_HD Element& at(int slot) const { return first[static_cast<int64_t>(slot) * apart]; }
  };

  // `times` as many numbers apart as those of u.
  template <typename Element>
  VIMDEPLOY_HD Slots<Element> slots_of(Element* channel, int times, const Walk<T>& walk, int tile) const {
    return {channel + static_cast<int64_t>(walk.first_token(tile)) * (times * a_.channels), times * walk.apart};
  }

  VIMDEPLOY_HD void load_z(const OutputRegisters<T>& r, int tile, Held<T> (&z)[kTokenTile]) const {
    const Slots<const T> from = slots_of(r.z, 2, r.walk, tile);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) z[i] = Held<T>{};
    r.walk.each_slot(r.walk.tokens_there(area_, tile), [&](int i) { z[i] = held<T>(from.at(i)); });
  }

  // The sums of the thread's channel and four tokens of a tile; 4 * kChannelTile floats on, those of the other four.
  VIMDEPLOY_HD float* sums_of(const OutputRegisters<T>& r, int tile) const {
    return r.sums + static_cast<int64_t>(tile) * (kTokenTile * kChannelTile);
  }

  // The sums lie in the order of the tokens, for both ways of walking. The signs make numbers of places: a choice
  // between places would be made by address, and put the registers into memory.
  VIMDEPLOY_HD void add_sums(OutputRegisters<T>& r, int tile) const {
    float low[4], high[4];
    load4(sums_of(r, tile), low);
    load4(sums_of(r, tile) + 4 * kChannelTile, high);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < 4; ++i) {
      r.y[i] += r.walk.flip ? +high[3 - i] : +low[i];
      r.y[i + 4] += r.walk.flip ? +low[3 - i] : +high[i];
    }
  }

  VIMDEPLOY_HD void store_sums(const OutputRegisters<T>& r, int tile) const {
    float low[4], high[4];
    VIMDEPLOY_UNROLL
    for (int i = 0; i < 4; ++i) {
      low[i] = r.walk.flip ? +r.y[7 - i] : +r.y[i];
      high[i] = r.walk.flip ? +r.y[3 - i] : +r.y[i + 4];
    }
    store4(low, sums_of(r, tile));
    store4(high, sums_of(r, tile) + 4 * kChannelTile);
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

  const ScanArguments<T>& a_;
  Area area_;
  int passes_;
  SharedLayout layout_;
  float* shared_;
  float* sums_;
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
