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
  constexpr int kStates = Kind::kStates;
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
        if (r.group < 0) return;
        store_end(r.scan, end_of(r));
        block.begin_walk_again(r);
      });
      // The states are divided among the blocks; a thread carries those of its channel.
      team.each_in_cluster([&](int, Registers& r) {
        if (r.group < 0) return;
        const int subscan = block.subscan_of(pass, r), e = block.extent().template channel_of<Kind>(a, r.scan.lane);
        VIMDEPLOY_DO_NOT_UNROLL
        for (int n = block.extent().chunk; n < kStates; n += a.chunks) {
          float* end = end_of(r) + r.scan.lane;
          carry(
              a, a.is_reversed(subscan), a.decay_of_state(subscan, e, n),
              [&](int chunk) { return team.in_block(chunk, end + n * kChannelTile); },
              [&](int chunk) { return team.in_block(chunk, end + kStates * kChannelTile); });
        }
      });
      team.each([&](int, Registers& r) {
        if (r.group >= 0) load_states(r.scan, end_of(r));
      });
    }
  }
}

}  // namespace vimdeploy::cuda
