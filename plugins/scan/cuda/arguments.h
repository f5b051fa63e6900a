// The arguments of the scan's CUDA kernels: the problem, divided as its plan says.

#pragma once

#include <cfloat>
#include <cstdint>

#include "scan/cuda/layout.h"
#include "scan/cuda/math.h"
#include "scan/host_device.h"
#include "scan/cuda/plan.h"
#include "scan/problem.h"

namespace vimdeploy::cuda {

template <typename T>
struct ScanArguments {
  int batch, tokens, channels, states, rank, directions;
  int subscans;       // subscan i is direction i % K with the kStateGroup states from i / K * kStateGroup on
  int chunks;         // of the tokens
  int chunk_tokens;   // in every chunk but the last
  int channel_tiles;  // of the channels
  bool sums_in_shared;
  float scale;
  uint64_t reversed = 0;  // bit k: direction k reads the tokens last to first

  const T* u;          // (K, B, L, E)
  const T* z;          // (B, L, 2E), from its element E on
  const T* dt_bc;      // (K, B, L, R+2N)
  const T* dt_weight;  // (K, E, R)
  const float* dt_bias;
  const float* A;
  const float* D;
  T* y;                 // (B, L, E)
  float* chunk_states;  // (subscans, B, chunks, kStateGroup, E)
  float* chunk_dt;      // (K, B, chunks, E)
  float* sums;          // (B, channel_tiles, tokens_of_sums(L) / kTokenTile, kTokenTile / 4, kChannelTile, 4)

  ScanArguments(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                const SelectiveScanTensors& tensors, void* workspace)
      : batch(static_cast<int>(problem.batch)),
        tokens(static_cast<int>(problem.tokens)),
        channels(static_cast<int>(problem.channels)),
        states(static_cast<int>(problem.states)),
        rank(static_cast<int>(problem.rank)),
        directions(static_cast<int>(problem.directions())),
        subscans(static_cast<int>(subscans_of(problem))),
        chunks(static_cast<int>(plan.chunks)),
        chunk_tokens(static_cast<int>(plan.chunk_tokens)),
        channel_tiles((channels + kChannelTile - 1) / kChannelTile),
        sums_in_shared(plan.sums_in_shared),
        scale(problem.scale),
        u(static_cast<const T*>(tensors.u.data)),
        z(static_cast<const T*>(tensors.z.data)),
        dt_bc(static_cast<const T*>(tensors.delta.data)),
        dt_weight(static_cast<const T*>(tensors.delta_weight)),
        dt_bias(tensors.delta_bias),
        A(tensors.A),
        D(tensors.D),
        y(static_cast<T*>(tensors.y.data)),
        chunk_states(part(workspace, plan.chunk_states)),
        chunk_dt(part(workspace, plan.chunk_dt)),
        sums(part(workspace, plan.sums)) {
    for (size_t k = 0; k < problem.reverse.size(); ++k) reversed |= uint64_t{problem.reverse[k] != 0} << k;
  }

  VIMDEPLOY_HD int is_reversed(int subscan) const { return static_cast<int>(reversed >> (subscan % directions) & 1); }

  VIMDEPLOY_HD int row() const { return rank + 2 * states; }  // of dt_bc

  // A * log2(e), for a channel counted over all directions. Never infinite: times a step size of 0 that would be NaN.
  VIMDEPLOY_HD float decay_of(int64_t channel, int n) const {
    const float decay = A[channel * states + n] * kLog2E;
    return decay > FLT_MAX ? FLT_MAX : decay < -FLT_MAX ? -FLT_MAX : decay;
  }

 private:
  static float* part(void* workspace, size_t begin) {
    return reinterpret_cast<float*>(static_cast<char*>(workspace) + begin);
  }
};

// What a thread block works on: the tokens of one chunk, and one tile of channels.
struct BlockExtent {
  unsigned b;
  int chunk;
  int begin, tokens, tiles;  // first token in the sequence, number of tokens, tiles of kTokenTile
  int channel;               // the first of kChannelTile

  template <typename T>
  VIMDEPLOY_HD BlockExtent(const ScanArguments<T>& a, unsigned b_, int chunk_, int channel_tile)
      : b(b_), chunk(chunk_), begin(chunk_ * a.chunk_tokens), channel(channel_tile * kChannelTile) {
    tokens = a.tokens - begin < a.chunk_tokens ? a.tokens - begin : a.chunk_tokens;
    tiles = (tokens + kTokenTile - 1) / kTokenTile;
  }

  // The channel of a thread. Threads beyond the last channel take the last one.
  template <typename T>
  VIMDEPLOY_HD int channel_of(const ScanArguments<T>& a, int lane) const {
    return channel + lane < a.channels ? channel + lane : a.channels - 1;
  }

  // The first token, counted over the whole batch.
  template <typename T>
  VIMDEPLOY_HD int64_t first_token(const ScanArguments<T>& a) const {
    return static_cast<int64_t>(b) * a.tokens + begin;
  }
};

}  // namespace vimdeploy::cuda
