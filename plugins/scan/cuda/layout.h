// What the plan and the source of the CUDA kernels share: tile sizes, and the layout of a block's shared memory, in
// floats.

#pragma once

#include <cstdint>
#include <iterator>

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

VIMDEPLOY_HD int smaller_of(int a, int b) { return a < b ? a : b; }

// Channels of a thread group, whose threads share the rows that they stage: two warps with a channel for each thread,
// or one warp with two.
inline constexpr int kChannelTile = 64;
VIMDEPLOY_HD constexpr int group_threads(int channels_per_thread) { return kChannelTile / channels_per_thread; }

// Thread groups of a block, each with a subscan of its own.
inline constexpr int kThreadGroups = 2;

// Tokens between two barriers: their step sizes stay in registers, and one load of a weight serves all of them.
inline constexpr int kTokenTile = 8;

// States of a subscan: one of these, for which the kernels are compiled. The largest fits into registers and is what
// Vim has; with the others a scan of a single state, or of up to 8, computes no padding.
inline constexpr int kStateGroups[] = {1, 8, 16};

inline int state_group_of(int64_t states) {
  for (int group : kStateGroups) {
    if (states <= group) return group;
  }
  return kStateGroups[std::size(kStateGroups) - 1];
}

// Row of B and C of a token, 16 each at most. Padded by 8 floats: the rows that a warp stages at once then lie in
// different banks.
inline constexpr int kStateRow = 40;

// The most channels that a thread scans: two, side by side, if each has so many states that what they share (B, C,
// addresses, barriers) is worth it. Two adjacent channels are loaded and stored at once, so E must be even.
VIMDEPLOY_HD constexpr int most_channels_per_thread(int state_group) { return state_group == 16 ? 2 : 1; }
VIMDEPLOY_HD constexpr int most_channels_per_thread(int state_group, int64_t channels) {
  return channels % 2 == 0 ? most_channels_per_thread(state_group) : 1;
}

// Resident threads of a multiprocessor, limited by registers, of which it has 64 Ki: 168 a thread for 8 and 16 states,
// 255 for two channels. With 16 states, 512 threads and 128 registers, ptxas spills, and three warps a scheduler
// already keep it busy; so do two whose threads have two channels. A cluster's kernel takes a few registers more.
VIMDEPLOY_HD constexpr int resident_threads(int state_group, int channels_per_thread, bool is_cluster) {
  if (is_cluster) return state_group == 16 ? 256 : 384;
  return channels_per_thread == 2 ? 256 : state_group == 1 ? 512 : 384;
}

// Threads of a block of `carry` and of the convolution, whose threads do not cooperate.
inline constexpr int kThreads = 128;

// How a scan's tensors lie and what becomes of y. The kernels are compiled for each.
enum class Form {
  gated,     // BidirectionalSelectiveScan: low rank, B and C are one row; the directions are summed and gated
  low_rank,  // LowRankSelectiveScan: three tensors; each direction has a y of its own
  given,     // SelectiveScan: the same, with a step size for every channel in place of the low rank
};

inline Form form_of(const SelectiveScanProblem& problem) {
  return problem.is_gated ? Form::gated : problem.rank > 0 ? Form::low_rank : Form::given;
}

// A subscan is one direction with a group of states; an output is the sum of its subscans.
inline int64_t state_groups_of(const SelectiveScanProblem& problem) {
  const int group = state_group_of(problem.states);
  return (problem.states + group - 1) / group;
}
inline int64_t outputs_of(const SelectiveScanProblem& problem) { return problem.is_gated ? 1 : problem.directions(); }
inline int64_t subscans_of_output(const SelectiveScanProblem& problem) {
  return state_groups_of(problem) * (problem.is_gated ? problem.directions() : 1);
}

// Thread groups of a block, for an output of that many subscans: a single one needs one.
VIMDEPLOY_HD int thread_groups_of(int64_t subscans) { return subscans > 1 ? kThreadGroups : 1; }

// Whether the low rank is multiplied on tensor cores, by products of warps of kInner ranks at a time. What they
// multiply has 16 bits, their products are exact, and their sums are of float32, as the operators' definition wants.
VIMDEPLOY_HD constexpr bool multiplies_by_warp(int64_t bytes_of_element) { return bytes_of_element == 2; }
inline constexpr int kInner = 16;
VIMDEPLOY_HD constexpr int64_t products_of(int64_t rank) { return (rank + kInner - 1) / kInner; }

// Each thread group has its own rows and weights; the rows are double-buffered: one tile is read while the next is
// written. Parts that are read as float4 begin at a multiple of four.
struct SharedLayout {
  int64_t rows;     // (groups, 2, tile_floats): B and C per token; low rank per rank unless multiplies_by_warp
  int64_t weights;  // (groups, weight_floats): of the low rank
  int64_t ends;     // (groups, end_floats): of the block's chunk, in a cluster
  int64_t sums;     // (tokens of the sums / kTokenTile, kTokenTile / 4, kChannelTile, 4)
  int64_t floats;
};

// Tokens that a buffer of sums has room for: whole tiles.
VIMDEPLOY_HD int64_t tokens_of_sums(int64_t tokens) { return (tokens + kTokenTile - 1) / kTokenTile * kTokenTile; }

VIMDEPLOY_HD int64_t tile_floats(int64_t bytes_of_element, int64_t rank) {
  return (kStateRow + (multiplies_by_warp(bytes_of_element) ? 0 : rank)) * kTokenTile;
}

// (rank, kChannelTile) floats, or (products_of(rank), kChannelTile, kInner) numbers of 16 bits; those of one product
// stay in registers.
VIMDEPLOY_HD int64_t weight_floats(int64_t bytes_of_element, int64_t rank) {
  if (!multiplies_by_warp(bytes_of_element)) return rank * kChannelTile;
  return rank > kInner ? products_of(rank) * (kChannelTile * kInner / 2) : 0;
}

// The end of a chunk is the states of a channel tile, and the sums of the step sizes.
VIMDEPLOY_HD constexpr int end_floats(int state_group) { return (state_group + 1) * kChannelTile; }

// `floats_of_ends` is 0 unless the block is one of a cluster.
VIMDEPLOY_HD SharedLayout shared_layout(int64_t groups, int64_t bytes_of_element, int64_t rank, int64_t floats_of_ends,
                                        int64_t tokens_of_sums) {
  SharedLayout layout{};
  layout.weights = groups * 2 * tile_floats(bytes_of_element, rank);
  layout.ends = layout.weights + groups * weight_floats(bytes_of_element, rank);
  layout.sums = layout.ends + groups * floats_of_ends;
  layout.floats = layout.sums + tokens_of_sums * kChannelTile;
  return layout;
}

}  // namespace vimdeploy::cuda
