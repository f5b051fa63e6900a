// The arguments of the scan's CUDA kernels: the problem, divided as its plan says.

#pragma once

#include <cfloat>
#include <cstdint>
#include <type_traits>

#include "scan/cuda/layout.h"
#include "scan/cuda/math.h"
#include "scan/host_device.h"
#include "scan/cuda/plan.h"
#include "scan/problem.h"

namespace vimdeploy::cuda {

// What a kernel is compiled for.
template <typename T, Form form, int states, int channels>
struct ScanKind {
  using Element = T;
  static constexpr Form kForm = form;
  static constexpr int kStates = states;      // of a subscan
  static constexpr int kChannels = channels;  // of a thread, adjacent ones
  static constexpr int kGroupThreads = group_threads(channels);
};

// The channels of a thread for a plan's problem with these tensors. Two adjacent ones are loaded and stored at once: if
// their addresses do not allow it, a thread scans one; the rest of the plan is the same for both.
inline int channels_per_thread(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                               const SelectiveScanTensors& tensors) {
  if (plan.channels_per_thread == 1) return 1;
  const auto takes_pairs = [&](const auto& rows) {
    const auto pair = static_cast<uintptr_t>(2 * bytes_of(problem.type));
    return reinterpret_cast<uintptr_t>(rows.data) % pair == 0 && (rows.direction | rows.sequence | rows.token) % 2 == 0;
  };
  const bool all_take = takes_pairs(tensors.u) && takes_pairs(tensors.y) &&
                        (!problem.is_gated || takes_pairs(tensors.z)) &&
                        (problem.rank > 0 || takes_pairs(tensors.delta));
  return all_take ? static_cast<int>(plan.channels_per_thread) : 1;
}

// Calls body(kind) with the ScanKind of a problem.
template <typename Body>
void with_scan_kind(const SelectiveScanProblem& problem, int channels_per_thread, Body&& body) {
  const auto with_channels = [&](auto element, auto form, auto states) {
    using T = decltype(element);
    constexpr Form kForm = decltype(form)::value;
    constexpr int kStates = decltype(states)::value;
    if constexpr (most_channels_per_thread(kStates) == 2) {
      if (channels_per_thread == 2) return body(ScanKind<T, kForm, kStates, 2>());
    }
    body(ScanKind<T, kForm, kStates, 1>());
  };
  const auto with_states = [&](auto element, auto form) {
    switch (state_group_of(problem.states)) {
      case kStateGroups[0]:
        return with_channels(element, form, std::integral_constant<int, kStateGroups[0]>());
      case kStateGroups[1]:
        return with_channels(element, form, std::integral_constant<int, kStateGroups[1]>());
      default:
        return with_channels(element, form, std::integral_constant<int, kStateGroups[2]>());
    }
  };
  with_element_type(problem.type, [&](auto element) {
    switch (form_of(problem)) {
      case Form::gated:
        return with_states(element, std::integral_constant<Form, Form::gated>());
      case Form::low_rank:
        return with_states(element, std::integral_constant<Form, Form::low_rank>());
      case Form::given:
        return with_states(element, std::integral_constant<Form, Form::given>());
    }
  });
}

// The tensors are on the device. In the gated form a row of delta goes on with that of B, and that with C's.
struct ScanArguments : SelectiveScanTensors {
  int batch, tokens, channels, states, rank, directions;
  int state_group;   // states of a subscan
  int outputs;       // output i is the sum of the subscans i, i + outputs, i + 2 * outputs ...
  int summands;      // subscans of an output
  int subscans;      // subscan i is direction i % K with the states from i / K * state_group on
  int chunks;        // of the tokens
  int chunk_tokens;  // in every chunk but the last
  Schedule schedule;
  int channel_tiles;  // of the channels
  bool sums_in_shared, has_softplus;
  bool rank_in_fours;    // four numbers of the low rank, or of its weights, can be loaded at once: 16 bits each
  bool states_in_fours;  // so can four of A
  float scale;
  uint64_t reversed = 0;  // bit k: direction k reads the tokens last to first

  float* ends;  // (subscans, B, channel_tiles, chunks, end_floats): of all chunks, see chunks.h
  float* sums;  // (outputs, B, channel_tiles, tokens_of_sums(L) / kTokenTile, kTokenTile / 4, kChannelTile, 4)

  ScanArguments(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                const SelectiveScanTensors& tensors, void* workspace)
      : SelectiveScanTensors(tensors),
        batch(static_cast<int>(problem.batch)),
        tokens(static_cast<int>(problem.tokens)),
        channels(static_cast<int>(problem.channels)),
        states(static_cast<int>(problem.states)),
        rank(static_cast<int>(problem.rank)),
        directions(static_cast<int>(problem.directions())),
        state_group(state_group_of(problem.states)),
        outputs(static_cast<int>(outputs_of(problem))),
        summands(static_cast<int>(subscans_of_output(problem))),
        subscans(outputs * summands),
        chunks(static_cast<int>(plan.chunks)),
        chunk_tokens(static_cast<int>(plan.chunk_tokens)),
        schedule(plan.schedule),
        channel_tiles((channels + kChannelTile - 1) / kChannelTile),
        sums_in_shared(plan.sums_in_shared),
        has_softplus(problem.delta_softplus != 0),
        rank_in_fours((rank | delta.direction | delta.sequence | delta.token) % 4 == 0 && is_aligned(delta.data, 8) &&
                      is_aligned(delta_weight, 8)),
        states_in_fours(states % 4 == 0 && is_aligned(A, 16)),
        scale(problem.scale),
        ends(part(workspace, plan.ends)),
        sums(part(workspace, plan.sums)) {
    for (size_t k = 0; k < problem.reverse.size(); ++k) reversed |= uint64_t{problem.reverse[k] != 0} << k;
  }

  VIMDEPLOY_HD int is_reversed(int subscan) const { return static_cast<int>(reversed >> (subscan % directions) & 1); }

  // What is written in place of A: A * log2(e), never infinite: times a step size of 0 that would be NaN.
  VIMDEPLOY_HD static float decay_of(float rate) {
    const float decay = rate * kLog2E;
    return decay > FLT_MAX ? FLT_MAX : decay < -FLT_MAX ? -FLT_MAX : decay;
  }

  // The same for state n of a subscan, which is a copy of the last one if it is padding.
  VIMDEPLOY_HD float decay_of_state(int subscan, int e, int n) const {
    const int state = subscan / directions * state_group + n;
    const int64_t channel = static_cast<int64_t>(subscan % directions) * channels + e;
    return decay_of(A[channel * states + (state < states ? state : states - 1)]);
  }

 private:
  static bool is_aligned(const void* data, uintptr_t bytes) { return reinterpret_cast<uintptr_t>(data) % bytes == 0; }

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

  VIMDEPLOY_HD BlockExtent(const ScanArguments& a, unsigned b_, int chunk_, int channel_tile)
      : b(b_), chunk(chunk_), begin(chunk_ * a.chunk_tokens), channel(channel_tile * kChannelTile) {
    tokens = a.tokens - begin < a.chunk_tokens ? a.tokens - begin : a.chunk_tokens;
    tiles = (tokens + kTokenTile - 1) / kTokenTile;
  }

  // The first channel of a thread. Threads beyond the last channel take the last ones.
  template <typename Kind>
  VIMDEPLOY_HD int channel_of(const ScanArguments& a, int lane) const {
    return has_channel<Kind>(a, lane) ? channel + lane * Kind::kChannels : a.channels - Kind::kChannels;
  }

  template <typename Kind>
  VIMDEPLOY_HD bool has_channel(const ScanArguments& a, int lane) const {
    return channel + lane * Kind::kChannels < a.channels;
  }
};

}  // namespace vimdeploy::cuda
