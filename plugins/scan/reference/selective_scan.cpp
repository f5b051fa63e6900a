// BidirectionalSelectiveScan, written as its definition.

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
  const auto* u = static_cast<const T*>(tensors.u);
  const auto* xz = static_cast<const T*>(tensors.xz);
  const auto* dt_bc = static_cast<const T*>(tensors.dt_bc);
  const auto* dt_weight = static_cast<const T*>(tensors.dt_weight);
  auto* y = static_cast<T*>(tensors.y);
  std::vector<float> h(static_cast<size_t>(N));
  std::vector<float> sum(static_cast<size_t>(L));

  for (int64_t b = 0; b < B; ++b) {
    for (int64_t e = 0; e < E; ++e) {
      std::fill(sum.begin(), sum.end(), 0.0f);
      for (int64_t k = 0; k < K; ++k) {
        std::fill(h.begin(), h.end(), 0.0f);
        for (int64_t step = 0; step < L; ++step) {
          const int64_t l = problem.reverse[static_cast<size_t>(k)] ? L - 1 - step : step;
          const T* row = dt_bc + ((k * B + b) * L + l) * (R + 2 * N);
          float dt = tensors.dt_bias[k * E + e];
          for (int64_t r = 0; r < R; ++r) dt += to_float(dt_weight[(k * E + e) * R + r]) * to_float(row[r]);
          dt = softplus(dt);
          const float u_l = to_float(u[((k * B + b) * L + l) * E + e]);
          float y_l = tensors.D[k * E + e] * u_l;
          for (int64_t n = 0; n < N; ++n) {
            float& h_n = h[static_cast<size_t>(n)];
            h_n = std::exp(dt * tensors.A[(k * E + e) * N + n]) * h_n + dt * u_l * to_float(row[R + n]);
            y_l += to_float(row[R + N + n]) * h_n;
          }
          sum[static_cast<size_t>(l)] += y_l;
        }
      }
      for (int64_t l = 0; l < L; ++l) {
        const float z = to_float(xz[(b * L + l) * 2 * E + E + e]);
        y[(b * L + l) * E + e] = from_float<T>(problem.scale * silu(z) * sum[static_cast<size_t>(l)]);
      }
    }
  }
}

}  // namespace

void selective_scan_reference(const SelectiveScanProblem& problem, const SelectiveScanTensors& tensors) {
  with_element_type(problem.type, [&](auto element) { reference<decltype(element)>(problem, tensors); });
}

}  // namespace vimdeploy
