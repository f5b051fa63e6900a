// Source of the scan's CUDA kernels, fourth part, for sequences cut into chunks that one launch computes: the blocks of
// all chunks of a channel tile are a cluster, and exchange the ends of their chunks through their shared memory.
//
// `Team` has two members more than output.h explains. team.each_in_cluster(phase) is each(), and ends with a barrier of
// all blocks of the cluster; team.in_block(rank, address) is where the block of that rank has in its shared memory what
// this block has at `address`, and may be used between two such barriers: before the first the other block may not have
// written, after the last it may have ended.

#pragma once

#include "scan/cuda/chunks.h"
#include "scan/cuda/output.h"

namespace vimdeploy::cuda {

// One chunk of an output, whose rank in the cluster is its number. Walks over the tokens twice: for the end of the
// chunk and, when its beginning is known, for the output. The first walk computes an unused y, so that both run the
// same instructions: the second finds them in the cache.
template <typename Kind, typename Team>
VIMDEPLOY_HD void cluster_block(Team& team, const ScanArguments& a, unsigned index, float* shared) {
  using Registers = OutputRegisters<Kind>;
  static_assert(Kind::kChannels == 1);
  constexpr int kStates = Kind::kStates, kEndStates = kStates * kChannelTile;
  for (int pass = 0; pass < passes_of(a); ++pass) {
    const OutputBlock<Kind> block(a, computed_anew(index), shared);
    team.each([&](int thread, Registers& r) {
      if (!block.takes_part(thread, pass)) return;
      block.begin_scan(thread, pass, r);
      r.scan.begin_walk(a, block.extent());
    });
    VIMDEPLOY_DO_NOT_UNROLL
    for (int walk = 0; walk < 2; ++walk) {
      const bool is_output = walk == 1;
      for (int step = 0; step <= block.steps(); ++step) {
        team.each_warp([&](auto& warp) {
          if (block.takes_part(warp.first_thread(), pass)) block.walk(warp, pass, step, is_output);
        });
      }
      if (is_output) break;
      const OutputBlock<Kind> ended(a, computed_anew(index), shared);  // `block`, not in registers during the walk
      team.each_in_cluster([&](int thread, Registers& r) {
        if (ended.takes_part(thread, pass)) store_end(r.scan, ended.end_of(thread));
      });
      // The blocks share the states of the tile evenly. Meanwhile the next walk's first tile is loaded.
      team.each_in_cluster([&](int thread, Registers& r) {
        if (!ended.takes_part(thread, pass)) return;
        r.scan.go_back(a, ended.extent());
        r.scan.load_first(a, ended.extent());
        float* const end = ended.end_of(thread);
        const int subscan = ended.subscan_of(thread, pass), rank = ended.extent().chunk;
        const int share = quotient(kEndStates + a.chunks - 1, a.chunks);
        VIMDEPLOY_DO_NOT_UNROLL
        for (int i = rank * share + r.scan.lane; i < kEndStates && i < (rank + 1) * share; i += kChannelTile) {
          const int n = quotient(i, kChannelTile), lane = remainder(i, kChannelTile);
          const int e = ended.extent().template channel_of<Kind>(a, lane);
          carry(
              a, a.is_reversed(subscan), a.decay_of_state(subscan, e, n),
              [&](int chunk) { return team.in_block(chunk, end + i); },
              [&](int chunk) { return team.in_block(chunk, end + kEndStates + lane); });
        }
        r.scan.stage_first(a, ended.extent());
      });
      team.each([&](int thread, Registers& r) {
        if (ended.takes_part(thread, pass)) load_states(r.scan, ended.end_of(thread));
      });
    }
  }
}

}  // namespace vimdeploy::cuda
