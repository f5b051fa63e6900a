// What the plan and the source of the CUDA kernels share: tile sizes, and the layout of a block's shared memory, in
// floats.

#pragma once

#include <cstdint>

#include "scan/host_device.h"
#include "scan/problem.h"

namespace vimdeploy::cuda {

// For numbers that are not negative: unsigned arithmetic makes a power of two a single instruction.
VIMDEPLOY_HD int quotient(int a, int b) {
  return static_cast<int>(static_cast<unsigned>(a) / static_cast<unsigned>(b));
}
VIMDEPLOY_HD int remainder(int a, int b) {
  return static_cast<int>(static_cast<unsigned>(a) % static_cast<unsigned>(b));
}

// Threads of a thread group, one for each channel of a tile: two warps share the rows of dt_bc that they stage.
inline constexpr int kChannelTile = 64;

// Thread groups of a block, each with a subscan of its own.
inline constexpr int kThreadGroups = 2;

// Tokens between two barriers: their step sizes stay in registers, and one load of a weight serves all of them.
inline constexpr int kTokenTile = 8;

// States of a subscan: as many as fit into registers, and what Vim has.
inline constexpr int kStateGroup = 16;

// Row of B and C of a token, padded by 8 floats: the rows that a warp stages at once then lie in different banks.
inline constexpr int kStateRow = 2 * kStateGroup + 8;

// Resident threads of a multiprocessor, limited by registers: 168 a thread, of 64 Ki. With 512 threads and 128
// registers ptxas spills, and three warps a scheduler already keep it busy.
inline constexpr int kResidentThreads = 384;

// Threads of a block of `carry` and of the convolution, whose threads do not cooperate.
inline constexpr int kThreads = 128;

// A subscan is one direction with a group of kStateGroup states.
inline int64_t subscans_of(const SelectiveScanProblem& problem) {
  return problem.directions() * ((problem.states + kStateGroup - 1) / kStateGroup);
}

// Thread groups that a block has: a single subscan needs one.
VIMDEPLOY_HD int thread_groups_of(int64_t subscans) { return subscans > 1 ? kThreadGroups : 1; }

// Each thread group has its own rows and weights; the rows are double-buffered: one tile is read while the next is
// written. Parts that are read as float4 begin at a multiple of four.
struct SharedLayout {
  int64_t rows;     // (groups, 2, kTokenTile * kStateRow + rank * kTokenTile): B and C per token, low rank per rank
  int64_t weights;  // (groups, rank, kChannelTile)
  int64_t sums;     // (tokens of the sums / kTokenTile, kTokenTile / 4, kChannelTile, 4)
  int64_t floats;
};

// Tokens that a buffer of sums has room for: whole tiles.
VIMDEPLOY_HD int64_t tokens_of_sums(int64_t tokens) { return (tokens + kTokenTile - 1) / kTokenTile * kTokenTile; }

VIMDEPLOY_HD int64_t tile_floats(int64_t rank) { return (rank + kStateRow) * kTokenTile; }

VIMDEPLOY_HD SharedLayout shared_layout(int64_t groups, int64_t rank, int64_t tokens_of_sums) {
  SharedLayout layout{};
  layout.weights = groups * 2 * tile_floats(rank);
  layout.sums = layout.weights + groups * rank * kChannelTile;
  layout.floats = layout.sums + tokens_of_sums * kChannelTile;
  return layout;
}

}  // namespace vimdeploy::cuda
