// What the plan of the CUDA kernels and their text agree on: the sizes of a block and where its shared memory's parts
// begin, in floats.

#pragma once

#include <cstdint>

#include "scan/host_device.h"
#include "scan/problem.h"

namespace vimdeploy::cuda {

// Of numbers that are not negative: by a power of two, single instructions.
VIMDEPLOY_HD int quotient(int a, int b) {
  return static_cast<int>(static_cast<unsigned>(a) / static_cast<unsigned>(b));
}
VIMDEPLOY_HD int remainder(int a, int b) {
  return static_cast<int>(static_cast<unsigned>(a) % static_cast<unsigned>(b));
}

// Threads of a group, each with a channel: two warps share the rows of dt_bc that they stage.
inline constexpr int kChannelTile = 64;

// Items that walk side by side.
inline constexpr int kGroups = 2;

// Tokens between two barriers: their step sizes stay in registers, and one load of a weight serves them all.
inline constexpr int kTokenTile = 8;

// States of an item: as many as stay in registers, and what Vim has.
inline constexpr int kStateGroup = 16;

// B and C of a token. 8 floats more than they take put the rows that a warp stages at once on different banks.
inline constexpr int kStateRow = 2 * kStateGroup + 8;

// Threads that stay on a multiprocessor, by their registers: 168 for each, of 64 Ki. With 512 threads and 128 registers
// ptxas spills, while three warps a scheduler already have more to issue than it takes.
inline constexpr int kResidentThreads = 384;

// Threads of `carry` and of the convolution, which share nothing.
inline constexpr int kThreads = 128;

inline int64_t items_of(const SelectiveScanProblem& problem) {
  return problem.directions() * ((problem.states + kStateGroup - 1) / kStateGroup);
}

// Groups that a block has: a single item needs one.
VIMDEPLOY_HD int groups_of(int64_t items) { return items > 1 ? kGroups : 1; }

// Everything but `sums` is there once a group; the rows twice, for one tile is read while the next is written. Parts
// that are read four floats at a time begin at a multiple of four.
struct SharedLayout {
  int64_t rows;     // (groups, 2, kTokenTile * kStateRow + rank * kTokenTile): B and C by token, low rank by rank
  int64_t weights;  // (groups, rank, kChannelTile)
  int64_t sums;     // (tokens of the sums / kTokenTile, kTokenTile / 4, kChannelTile, 4)
  int64_t floats;
};

// Of a sequence of so many: sums lie by whole tiles.
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
