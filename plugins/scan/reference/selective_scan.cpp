// All three scans, written as their definition.

#include "scan/reference/operators.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace vimdeploy {
namespace {

float softplus(float x) { return x > 20.0f ? x : std::log1p(std::exp(x)); }

float silu(float x) { return x / (1.0f + std::exp(-x)); }

template <typename T>
void reference(const SelectiveScanProblem& problem, const SelectiveScanTensors& tensors) {
  const int64_t B = problem.batch, L = problem.tokens, E = problem.channels, N = problem.states, R = problem.rank;
  const int64_t K = problem.directions();
  const auto* delta_weight = static_cast<const T*>(tensors.delta_weight);
  std::vector<float> h(static_cast<size_t>(N));
  std::vector<float> sum(static_cast<size_t>(L));

  for (int64_t b = 0; b < B; ++b) {
    for (int64_t e = 0; e < E; ++e) {
      std::fill(sum.begin(), sum.end(), 0.0f);
      for (int64_t k = 0; k < K; ++k) {
        std::fill(h.begin(), h.end(), 0.0f);
        for (int64_t step = 0; step < L; ++step) {
          const int64_t l = problem.reverse[static_cast<size_t>(k)] ? L - 1 - step : step;
          const T* delta = tensors.delta.at<T>(k, b, l);
          float dt = tensors.delta_bias[k * E + e];
          if (R == 0) dt += to_float(delta[e]);
          for (int64_t r = 0; r < R; ++r) dt += to_float(delta_weight[(k * E + e) * R + r]) * to_float(delta[r]);
          if (problem.delta_softplus) dt = softplus(dt);
          const float u = to_float(tensors.u.at<T>(k, b, l)[e]);
          float y = tensors.D[k * E + e] * u;
          for (int64_t n = 0; n < N; ++n) {
            float& h_n = h[static_cast<size_t>(n)];
            h_n = std::exp(dt * tensors.A[(k * E + e) * N + n]) * h_n + dt * u * to_float(tensors.B.at<T>(k, b, l)[n]);
            y += to_float(tensors.C.at<T>(k, b, l)[n]) * h_n;
          }
          if (problem.is_gated) {
            sum[static_cast<size_t>(l)] += y;
          } else {
            tensors.y.at<T>(k, b, l)[e] = from_float<T>(y);
          }
        }
        if (tensors.last_state) std::copy(h.begin(), h.end(), tensors.last_state + ((b * K + k) * E + e) * N);
      }
      if (!problem.is_gated) continue;
      for (int64_t l = 0; l < L; ++l) {
        const float z = to_float(tensors.z.at<T>(0, b, l)[e]);
        tensors.y.at<T>(0, b, l)[e] = from_float<T>(problem.scale * silu(z) * sum[static_cast<size_t>(l)]);
      }
    }
  }
}

}  // namespace

void selective_scan_reference(const SelectiveScanProblem& problem, const SelectiveScanTensors& tensors) {
  with_element_type(problem.type, [&](auto element) { reference<decltype(element)>(problem, tensors); });
}

}  // namespace vimdeploy
