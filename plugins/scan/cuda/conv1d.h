// Source of the convolutions' CUDA kernels. A thread computes u of all directions for a run of kRun tokens, so that x
// is read once: for kVector channels with the taps of W = 4 in registers, or for one channel with any W.
//
// Cost of a token and channel in float16: 2 bytes of x read and 2 of u written for each direction, 6 for Vim; one
// exponential and one reciprocal for each direction. The halo of a run, W - 1 tokens of x on either side, comes from
// the caches, because neighbouring threads compute the neighbouring runs.

#pragma once

#include "scan/cuda/layout.h"
#include "scan/cuda/math.h"
#include "scan/element.h"
#include "scan/host_device.h"
#include "scan/problem.h"

namespace vimdeploy::cuda {

inline constexpr int kRun = kTokenTile;

// Channels of a thread: with more, the registers would not hold x.
inline constexpr int kVector = 4;
inline constexpr int kVectorWidth = 4;  // the only W with taps in registers

template <typename T>
struct alignas(kVector * sizeof(T)) Vector {
  T channel[kVector];
};

template <typename T>
struct ConvolutionArguments {
  int batch, tokens, channels, width, directions;
  int row;  // X, of which the first E are read
  bool has_silu;
  uint64_t reversed = 0;  // bit k: direction k reads the tokens last to first
  const T* x;             // (B, L, X)
  const T* weight;        // (K, E, W)
  const T* bias;          // (K, E)
  T* u;                   // (K, B, L, E)

  ConvolutionArguments(const Conv1dProblem& problem, const Conv1dTensors& tensors)
      : batch(static_cast<int>(problem.batch)),
        tokens(static_cast<int>(problem.tokens)),
        channels(static_cast<int>(problem.channels)),
        width(static_cast<int>(problem.width)),
        directions(static_cast<int>(problem.directions())),
        row(static_cast<int>(problem.row)),
        has_silu(problem.silu != 0),
        x(static_cast<const T*>(tensors.x)),
        weight(static_cast<const T*>(tensors.weight)),
        bias(static_cast<const T*>(tensors.bias)),
        u(static_cast<T*>(tensors.u)) {
    for (size_t k = 0; k < problem.reverse.size(); ++k) reversed |= uint64_t{problem.reverse[k] != 0} << k;
  }

  // Whether rows of channels can be read and written kVector at a time, with the taps in registers.
  bool takes_vectors() const {
    const auto address = reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(u);
    return width == kVectorWidth && channels % kVector == 0 && row % kVector == 0 && address % sizeof(Vector<T>) == 0;
  }

  VIMDEPLOY_HD T result_of(float sum) const { return from_float<T>(has_silu ? silu(sum) : sum); }

  VIMDEPLOY_HD int runs() const { return (tokens + kRun - 1) / kRun; }
  VIMDEPLOY_HD int64_t threads(int channels_of_each) const {
    return static_cast<int64_t>(batch) * runs() * (channels / channels_of_each);
  }
};

// What thread `index` works on. Consecutive threads have consecutive channels, then the next run.
struct Run {
  int b, begin, e;

  template <typename T>
  VIMDEPLOY_HD Run(const ConvolutionArguments<T>& a, unsigned index, int channels_of_each)
      : b(static_cast<int>(index / (a.channels / channels_of_each) / a.runs())),
        begin(static_cast<int>(index / (a.channels / channels_of_each) % a.runs()) * kRun),
        e(static_cast<int>(index % (a.channels / channels_of_each)) * channels_of_each) {}
};

// One direction of a run. Its x is in registers, from W - 1 tokens before the run to W - 1 after it; the first tap in
// the order of the tokens is multiplied with x[kFirst + t] for token t of the run.
template <int kFirst, typename T>
VIMDEPLOY_HD void convolve_vectors(const ConvolutionArguments<T>& a, const Run& run, int k,
                                   const Vector<T> (&x)[kRun + 2 * (kVectorWidth - 1)]) {
  constexpr bool kIsReversed = kFirst > 0;
  const int64_t channel = static_cast<int64_t>(k) * a.channels + run.e;
  float taps[kVectorWidth][kVector], bias[kVector];
  VIMDEPLOY_UNROLL
  for (int i = 0; i < kVector; ++i) {
    bias[i] = to_float(a.bias[channel + i]);
    VIMDEPLOY_UNROLL
    for (int w = 0; w < kVectorWidth; ++w) {
      taps[w][i] = to_float(a.weight[(channel + i) * kVectorWidth + (kIsReversed ? kVectorWidth - 1 - w : w)]);
    }
  }
  T* u = a.u + ((static_cast<int64_t>(k) * a.batch + run.b) * a.tokens + run.begin) * a.channels + run.e;
  VIMDEPLOY_UNROLL
  for (int t = 0; t < kRun; ++t) {
    if (run.begin + t >= a.tokens) return;
    Vector<T> result;
    VIMDEPLOY_UNROLL
    for (int i = 0; i < kVector; ++i) {
      float sum = bias[i];
      VIMDEPLOY_UNROLL
      for (int w = 0; w < kVectorWidth; ++w) sum += taps[w][i] * to_float(x[kFirst + t + w].channel[i]);
      result.channel[i] = a.result_of(sum);
    }
    *reinterpret_cast<Vector<T>*>(u + static_cast<int64_t>(t) * a.channels) = result;
  }
}

template <typename T>
VIMDEPLOY_HD void convolve_vectors_thread(const ConvolutionArguments<T>& a, unsigned index) {
  constexpr int kHalo = kVectorWidth - 1;
  const Run run(a, index, kVector);
  const T* first = a.x + static_cast<int64_t>(run.b) * a.tokens * a.row + run.e;
  Vector<T> x[kRun + 2 * kHalo];
  VIMDEPLOY_UNROLL
  for (int i = 0; i < kRun + 2 * kHalo; ++i) {
    const int l = run.begin + i - kHalo;
    const bool is_token = 0 <= l && l < a.tokens;
    x[i] = is_token ? *reinterpret_cast<const Vector<T>*>(first + static_cast<int64_t>(l) * a.row) : Vector<T>{};
  }
  for (int k = 0; k < a.directions; ++k) {
    if (a.reversed >> k & 1) {
      convolve_vectors<kHalo>(a, run, k, x);
    } else {
      convolve_vectors<0>(a, run, k, x);
    }
  }
}

// Any width, one channel a thread.
template <typename T>
VIMDEPLOY_HD void convolve_thread(const ConvolutionArguments<T>& a, unsigned index) {
  const Run run(a, index, 1);
  const int end = run.begin + kRun < a.tokens ? run.begin + kRun : a.tokens;
  const T* x = a.x + static_cast<int64_t>(run.b) * a.tokens * a.row + run.e;
  for (int k = 0; k < a.directions; ++k) {
    const int tap_stride = a.reversed >> k & 1 ? 1 : -1;  // from a token to the one of the tap before
    const int64_t channel = static_cast<int64_t>(k) * a.channels + run.e;
    const T* weight = a.weight + channel * a.width;
    T* u = a.u + (static_cast<int64_t>(k) * a.batch + run.b) * a.tokens * a.channels + run.e;
    for (int l = run.begin; l < end; ++l) {
      float sum = to_float(a.bias[channel]);
      for (int w = 0; w < a.width; ++w) {
        const int64_t from = l + static_cast<int64_t>(a.width - 1 - w) * tap_stride;
        if (0 <= from && from < a.tokens) sum += to_float(weight[w]) * to_float(x[from * a.row]);
      }
      u[static_cast<int64_t>(l) * a.channels] = a.result_of(sum);
    }
  }
}

}  // namespace vimdeploy::cuda
