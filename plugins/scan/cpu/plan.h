// How the CPU kernels divide a problem: a pure function of the problem and the machine, which can be printed.
//
// A task is one sequence of the batch with one block of channels and all tokens, and with all directions, or with one
// group if groups are not summed: tasks are independent. A task computes its tokens in blocks, and a block one vector
// of channels at a time, so that the time per token does not depend on L; blocks of channels are as wide as the threads
// allow, so that memory is read page by page. A slot is the scratch of one task at a time.

#pragma once

#include <cstddef>
#include <string>

#include "scan/problem.h"

namespace vimdeploy {

// Channel blocks are multiples of the longest vector of any instruction set: 512 bits of float32.
inline constexpr int64_t kChannelGrain = 16;

inline constexpr size_t kCacheLine = 64;

// Numbers of a row of B, C or the low rank that lie together in a slot, so that the distance between two tokens is
// known at compile time: one address serves all of them.
inline constexpr int64_t kRowGroup = 16;

// The first cache line in the host's scratch.
inline float* aligned_scratch(void* scratch) {
  const auto address = reinterpret_cast<uintptr_t>(scratch);
  return reinterpret_cast<float*>((address + kCacheLine - 1) / kCacheLine * kCacheLine);
}

struct CpuFacts {
  int64_t threads = 1;  // or an upper bound: it sets the number of slots
};

struct Conv1dPlan {
  const char* name = "";  // of the operator
  int64_t token_block = 0;
  int64_t channel_block = 0;
  int64_t channel_blocks = 0;
  int64_t tasks = 0;
  int64_t slots = 0;
  int64_t halo = 0;      // tokens read on either side of a block: W - 1
  bool streams = false;  // u is written by non-temporal stores, if a vector is a cache line

  // Offsets of a slot's parts, in floats.
  int64_t weight = 0;  // (K, vectors, W, one vector): a reversed direction's taps in the order of the tokens
  int64_t bias = 0;    // (K, channel_block)
  int64_t x = 0;       // (halo + token_block + halo, one vector)
  int64_t slot_floats = 0;
  size_t scratch_bytes = 0;

  std::string to_string() const;
};

struct SelectiveScanPlan {
  const char* name = "";  // of the operator
  int64_t token_block = 0;
  int64_t channel_block = 0;
  int64_t channel_blocks = 0;
  int64_t tasks = 0;
  int64_t slots = 0;
  bool sums_in_y = false;  // the directions are summed in y itself, which takes a float32 y
  bool streams = false;    // sums for the next direction are written by non-temporal stores, likewise

  // Offsets of a slot's parts, in floats.
  int64_t decay = 0;      // (vectors, N, one vector): A * log2(e)
  int64_t dt_weight = 0;  // (vectors, R, one vector)
  int64_t dt_bias = 0;    // (channel_block)
  int64_t skip = 0;       // (channel_block): D
  int64_t h = 0;          // (vectors, N, one vector): the states between two token blocks
  int64_t low_rank = 0;   // (groups of kRowGroup of R, token_block, kRowGroup)
  int64_t BC = 0;         // (groups of kRowGroup of N, token_block, B and C of kRowGroup)
  int64_t dt = 0;         // (token_block, one vector)
  int64_t y = 0;          // (token_block, one vector)
  int64_t sum = 0;        // (L, channel_block); empty with sums_in_y or one direction
  int64_t slot_floats = 0;
  size_t scratch_bytes = 0;

  std::string to_string() const;
};

Conv1dPlan plan_of(const Conv1dProblem& problem, const CpuFacts& cpu);
SelectiveScanPlan plan_of(const SelectiveScanProblem& problem, const CpuFacts& cpu);

}  // namespace vimdeploy
