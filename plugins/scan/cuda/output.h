// Source of the scan's CUDA kernels, third part: the output of a thread block. `Team` is the threads of a block:
// team.each(phase) runs phase(thread, its registers) for every thread and ends with a barrier; team.each_warp(body)
// runs body(warp) for every warp, and ends with one, too. warp.each() is the same for the threads of a warp, with a
// barrier of the warp alone, and warp.multiply() the product of warp_product.h over the registers of all of them. On a
// device every thread runs it for itself; on a host a test runs all warps, and all threads of a warp, in turn, in any
// order.
//
// Cost of a token and channel of Vim (K = 2, N = 16, R = 12, float16): 8.5 bytes of global memory (4 of u, 2 of z, 2 of
// y, 0.5 of dt_bc, whose rows other channel tiles find in the cache); 32 exponentials for the states, 2 for the step
// sizes, 1 and a reciprocal for the gate. With chunks u and dt_bc are read twice, and the first 34 exponentials
// computed twice.
//
// For a token of one direction and 32 channels 124 instructions are issued if threads have two channels, 146 if they
// have one: kernel_costs.h has the counts, and tools/scan_costs makes them. 80 are for the states; tensor cores make
// the step sizes in 7, for which a loop over 12 ranks took 22. The 18 special functions take 144 clocks of their unit,
// and so bound the kernel with two channels: a polynomial in place of an exponential takes 12 instructions more, so one
// in sixteen would bring both to 137. That is not done, as no GPU has shown yet that this unit is what the kernels wait
// for.

#pragma once

#include "scan/cuda/chunks.h"
#include "scan/cuda/thread_scan.h"

namespace vimdeploy::cuda {

template <typename Kind>
struct OutputRegisters {
  using T = typename Kind::Element;

  ThreadScan<Kind> scan;
  int second_from;  // from this step on the other group has been at the tile before
  const T* z;       // z, out and sums: the thread's channels, at the first token of the extent; z of the gated form
  T* out;
  float* sums;
  float y[Kind::kChannels][kTokenTile];     // of the thread's own subscan
  float gate[Kind::kChannels][kTokenTile];  // scale * silu(z), for a tile that the group finishes, in the gated form
};

VIMDEPLOY_HD int passes_of(const ScanArguments& a) { return (a.summands + kThreadGroups - 1) / kThreadGroups; }

// The output of a thread block. In each pass its two thread groups compute one subscan each, side by side. The group
// that reaches a tile first writes its y to the buffer of sums; the group that reaches it second, after a barrier, adds
// its own, and in the last pass applies the gate and stores y. An output of one subscan has one group and one pass.
// Each sum is accessed by one pair of threads only.
template <typename Kind>
class OutputBlock {
 public:
  using T = typename Kind::Element;
  using Registers = OutputRegisters<Kind>;
  using Slot = Packed<T, Kind::kChannels>;
  static constexpr int kStates = Kind::kStates;
  static constexpr int kChannels = Kind::kChannels;
  static constexpr bool kIsGated = Kind::kForm == Form::gated;

  VIMDEPLOY_HD OutputBlock(const ScanArguments& a, unsigned block, float* shared)
      : a_(a),
        output_(kIsGated ? 0 : static_cast<int>(block / a.chunks / a.channel_tiles / a.batch)),
        extent_(a, block / a.chunks / a.channel_tiles - output_ * a.batch, static_cast<int>(block % a.chunks),
                static_cast<int>(block / a.chunks % a.channel_tiles)),
        passes_(passes_of(a)),
        layout_(shared_layout(thread_groups_of(a.summands), sizeof(T), a.rank,
                              a.schedule == Schedule::cluster ? end_floats(kStates) : 0, 0)),
        shared_(shared) {}

  VIMDEPLOY_HD int steps() const { return extent_.tiles; }
  VIMDEPLOY_HD const BlockExtent& extent() const { return extent_; }

  // The end of the chunk of a thread's group, in a cluster.
  VIMDEPLOY_HD float* end_of(int thread) const {
    return shared_ + layout_.ends + group_of(thread) * end_floats(kStates);
  }
  VIMDEPLOY_HD int subscan_of(int thread, int pass) const { return subscan_of_summand(summand_of(thread, pass)); }

  // Whether a thread's group has a subscan in a pass; the phases below are for those that have.
  VIMDEPLOY_HD bool takes_part(int thread, int pass) const { return summand_of(thread, pass) < a_.summands; }

  // Phase: begins the subscans of a pass.
  VIMDEPLOY_HD void begin_scan(int thread, int pass, Registers& r) const {
    r.second_from = second_from(pass, group_of(thread));
    r.scan.begin_scan(a_, extent_, subscan_of(thread, pass), remainder(thread, Kind::kGroupThreads),
                      GroupSharedMemory(layout_, shared_, group_of(thread), a_, sizeof(T)));
    const int e = extent_.template channel_of<Kind>(a_, r.scan.lane);
    if constexpr (kIsGated) r.z = a_.z.at<T>(0, extent_.b, extent_.begin) + e;
    r.out = a_.y.at<T>(output_, extent_.b, extent_.begin) + e;
    r.sums = r.scan.lane * 4 + (a_.sums_in_shared ? shared_ + layout_.sums : sums_in_workspace());
  }

  // The same phase: the states that the chunk begins with, if an earlier launch has left ends of chunks.
  VIMDEPLOY_HD void take_states(int thread, int pass, Registers& r) const {
    if (a_.chunks == 1) return;
    const float* ends = ends_in_workspace(a_, subscan_of(thread, pass), extent_.b, channel_tile());
    if (a_.schedule == Schedule::two_launches) return combine_ends(a_, ends, extent_.chunk, r.scan);
    load_states(r.scan, ends + extent_.chunk * end_floats(kStates));
  }

  // The phases of a step of a warp: finishes the tile of the step before, and computes y of the step's; if it is no
  // output, only the states go on.
  template <typename Warp>
  VIMDEPLOY_HD void walk(Warp& warp, int pass, int step, bool is_output) const {
    if (is_output && step > 0) warp.each([&](int, Registers& r) { finish(pass, step - 1, r); });
    if (step == steps()) return;
    make_step_sizes<Kind>(warp, a_, extent_, step);
    warp.each([&](int, Registers& r) { advance(pass, step, is_output, r); });
  }

 private:
  // Phase: computes y of the step's tile; if it is no output, only the states go on.
  VIMDEPLOY_HD void advance(int pass, int step, bool is_output, Registers& r) const {
    const int tile = r.scan.tile_at(extent_, step);
    const bool is_second = step >= r.second_from, is_gated = kIsGated && is_output && is_second && pass + 1 == passes_;
    Slot z[kTokenTile];
    if (is_gated) load_z(r, tile, z);
    r.scan.advance(a_, extent_, step, r.y);
    if (is_gated) {
      VIMDEPLOY_UNROLL
      for (int j = 0; j < kChannels; ++j) {
        VIMDEPLOY_UNROLL
        for (int i = 0; i < kTokenTile; ++i) r.gate[j][i] = a_.scale * silu(to_float(z[i], j));
      }
    }
    if (is_second || !is_output) return;
    if (pass > 0) add_sums(r, tile);
    store_sums(r, tile);
  }

  // Phase, after the barrier that ends advance(): finishes the tile of that step if the group reached it second.
  VIMDEPLOY_HD void finish(int pass, int step, Registers& r) const {
    if (step < r.second_from) return;
    const int tile = r.scan.tile_at(extent_, step);
    if (pass > 0 || has_two(pass)) add_sums(r, tile);
    if (pass + 1 < passes_) return store_sums(r, tile);
    const int valid = extent_.template has_channel<Kind>(a_, r.scan.lane) ? r.scan.valid_tokens(extent_, tile) : 0;
    const Slots<T> y = slots_of(r.out, 1, r.scan, tile);
    r.scan.for_each_valid_slot(valid, [&](int i) {
      float both[kChannels];
      VIMDEPLOY_UNROLL
      for (int j = 0; j < kChannels; ++j) both[j] = kIsGated ? r.gate[j][i] * r.y[j][i] : r.y[j][i];
      store_packed(both, y.at(i));
    });
  }

  // A tensor's elements of the thread's channels for each slot of a tile.
  template <typename Element>
  struct Slots {
    Element* first;
    int stride;

    VIMDEPLOY_HD Element* at(int slot) const { return first + static_cast<int64_t>(slot) * stride; }
  };

  // For a tensor whose rows are `times` as long as those of u.
  template <typename Element>
  VIMDEPLOY_HD Slots<Element> slots_of(Element* channel, int times, const ThreadScan<Kind>& scan, int tile) const {
    return {channel + static_cast<int64_t>(scan.first_token(tile)) * (times * a_.channels), times * scan.slot_stride};
  }

  VIMDEPLOY_HD void load_z(const Registers& r, int tile, Slot (&z)[kTokenTile]) const {
    const Slots<const T> from = slots_of(r.z, 2, r.scan, tile);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kTokenTile; ++i) z[i] = {};
    r.scan.for_each_valid_slot(r.scan.valid_tokens(extent_, tile),
                               [&](int i) { z[i] = load_packed<kChannels>(from.at(i)); });
  }

  // The sums of one of the thread's channels for the first four tokens of a tile; those of the other four are
  // 4 * kChannelTile floats further on. Neighbouring threads' sums are neighbours, for the sake of the banks: the first
  // channels of all threads come before the second ones.
  VIMDEPLOY_HD float* sums_of(const Registers& r, int tile, int channel) const {
    return r.sums + static_cast<int64_t>(tile) * (kTokenTile * kChannelTile) + channel * (4 * Kind::kGroupThreads);
  }

  // Sums are kept in the order of the tokens, for both directions of a scan. The unary plus makes the operands of ?:
  // values: a choice between two array elements would be made by address, and move the arrays from registers to memory.
  VIMDEPLOY_HD void add_sums(Registers& r, int tile) const {
    VIMDEPLOY_UNROLL
    for (int j = 0; j < kChannels; ++j) {
      float low[4], high[4];
      load(sums_of(r, tile, j), low);
      load(sums_of(r, tile, j) + 4 * kChannelTile, high);
      VIMDEPLOY_UNROLL
      for (int i = 0; i < 4; ++i) {
        r.y[j][i] += r.scan.reverse_mask ? +high[3 - i] : +low[i];
        r.y[j][i + 4] += r.scan.reverse_mask ? +low[3 - i] : +high[i];
      }
    }
  }

  VIMDEPLOY_HD void store_sums(const Registers& r, int tile) const {
    VIMDEPLOY_UNROLL
    for (int j = 0; j < kChannels; ++j) {
      float low[4], high[4];
      VIMDEPLOY_UNROLL
      for (int i = 0; i < 4; ++i) {
        low[i] = r.scan.reverse_mask ? +r.y[j][7 - i] : +r.y[j][i];
        high[i] = r.scan.reverse_mask ? +r.y[j][3 - i] : +r.y[j][i + 4];
      }
      store(low, sums_of(r, tile, j));
      store(high, sums_of(r, tile, j) + 4 * kChannelTile);
    }
  }

  VIMDEPLOY_HD int channel_tile() const { return quotient(extent_.channel, kChannelTile); }

  VIMDEPLOY_HD float* sums_in_workspace() const {
    const int64_t sequence = static_cast<int64_t>(output_) * a_.batch + extent_.b;
    const int64_t tile = sequence * a_.channel_tiles + channel_tile();
    return a_.sums + (tile * tokens_of_sums(a_.tokens) + extent_.begin) * kChannelTile;
  }

  VIMDEPLOY_HD int group_of(int thread) const { return quotient(thread, Kind::kGroupThreads); }
  VIMDEPLOY_HD int summand_of(int thread, int pass) const { return pass * kThreadGroups + group_of(thread); }
  VIMDEPLOY_HD int subscan_of_summand(int summand) const { return kIsGated ? summand : output_ + summand * a_.outputs; }

  VIMDEPLOY_HD bool has_two(int pass) const { return pass * kThreadGroups + 1 < a_.summands; }

  // A group that is alone finishes all tiles. If both scan in the same direction, group 1 does; if they scan towards
  // each other, each finishes the tiles after the middle, and group 1 a tile in the middle, which both reach at the
  // same step.
  VIMDEPLOY_HD int second_from(int pass, int group) const {
    if (!has_two(pass)) return 0;
    const int first = pass * kThreadGroups;
    if (a_.is_reversed(subscan_of_summand(first)) == a_.is_reversed(subscan_of_summand(first + 1)))
      return group == 1 ? 0 : extent_.tiles;
    return group == 1 ? extent_.tiles / 2 : (extent_.tiles + 1) / 2;
  }

  const ScanArguments& a_;
  int output_;
  BlockExtent extent_;
  int passes_;
  SharedLayout layout_;
  float* shared_;
};

VIMDEPLOY_HD int64_t output_blocks(const ScanArguments& a) {
  return static_cast<int64_t>(a.outputs) * a.batch * a.chunks * a.channel_tiles;
}

template <typename Kind, typename Team>
VIMDEPLOY_HD void output_block(Team& team, const ScanArguments& a, unsigned index, float* shared) {
  using Registers = OutputRegisters<Kind>;
  for (int pass = 0; pass < passes_of(a); ++pass) {
    const OutputBlock<Kind> block(a, computed_anew(index), shared);
    team.each([&](int thread, Registers& r) {
      if (!block.takes_part(thread, pass)) return;
      block.begin_scan(thread, pass, r);
      block.take_states(thread, pass, r);
      r.scan.begin_walk(a, block.extent());
    });
    for (int step = 0; step <= block.steps(); ++step) {
      team.each_warp([&](auto& warp) {
        if (block.takes_part(warp.first_thread(), pass)) block.walk(warp, pass, step, true);
      });
    }
  }
}

}  // namespace vimdeploy::cuda
