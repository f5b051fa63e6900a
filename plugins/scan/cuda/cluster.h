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
  const OutputBlock<Kind> block(a, index, shared);
  const auto end_of = [&](const Registers& r) { return block.ends() + r.group * end_floats(kStates); };
  for (int pass = 0; pass < block.passes(); ++pass) {
    team.each([&](int thread, Registers& r) {
      block.begin_scan(thread, pass, r);
      block.begin_walk(r);
    });
    VIMDEPLOY_DO_NOT_UNROLL
    for (int walk = 0; walk < 2; ++walk) {
      const bool is_output = walk == 1;
      for (int step = 0; step <= block.steps(); ++step) {
        team.each([&](int, Registers& r) {
          if (is_output && step > 0) block.finish(pass, step - 1, r);
          if (step < block.steps()) block.advance(pass, step, is_output, r);
        });
      }
      if (is_output) break;
      team.each_in_cluster([&](int, Registers& r) {
        if (r.group >= 0) store_end(r.scan, end_of(r));
      });
      // The blocks share the states of the tile evenly. Meanwhile the next walk's first tile is loaded.
      team.each_in_cluster([&](int, Registers& r) {
        if (r.group < 0) return;
        r.scan.go_back(a, block.extent());
        r.scan.load_first(a, block.extent());
        const int subscan = block.subscan_of(pass, r), rank = block.extent().chunk;
        const int share = quotient(kEndStates + a.chunks - 1, a.chunks);
        VIMDEPLOY_DO_NOT_UNROLL
        for (int i = rank * share + r.scan.lane; i < kEndStates && i < (rank + 1) * share; i += kChannelTile) {
          const int n = quotient(i, kChannelTile), lane = remainder(i, kChannelTile);
          float* const end = end_of(r);
          carry(
              a, a.is_reversed(subscan),
              a.decay_of_state(subscan, block.extent().template channel_of<Kind>(a, lane), n),
              [&](int chunk) { return team.in_block(chunk, end + i); },
              [&](int chunk) { return team.in_block(chunk, end + kEndStates + lane); });
        }
        r.scan.stage_first(a, block.extent());
      });
      team.each([&](int, Registers& r) {
        if (r.group >= 0) load_states(r.scan, end_of(r));
      });
    }
  }
}

}  // namespace vimdeploy::cuda
