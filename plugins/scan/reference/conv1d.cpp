// Both convolutions, written as their definition.

#include "scan/reference/operators.h"

#include <cmath>

namespace vimdeploy {
namespace {

template <typename T>
void reference(const Conv1dProblem& problem, const Conv1dTensors& tensors) {
  const int64_t B = problem.batch, L = problem.tokens, E = problem.channels, W = problem.width, X = problem.row;
  const auto* x = static_cast<const T*>(tensors.x);
  const auto* weight = static_cast<const T*>(tensors.weight);
  const auto* bias = static_cast<const T*>(tensors.bias);
  auto* u = static_cast<T*>(tensors.u);

  for (int64_t k = 0; k < problem.directions(); ++k) {
    for (int64_t b = 0; b < B; ++b) {
      for (int64_t l = 0; l < L; ++l) {
        for (int64_t e = 0; e < E; ++e) {
          float sum = to_float(bias[k * E + e]);
          for (int64_t w = 0; w < W; ++w) {
            const int64_t from = problem.reverse[static_cast<size_t>(k)] ? l + W - 1 - w : l - W + 1 + w;
            if (from < 0 || from >= L) continue;
            sum += to_float(weight[(k * E + e) * W + w]) * to_float(x[(b * L + from) * X + e]);
          }
          u[((k * B + b) * L + l) * E + e] = from_float<T>(problem.silu ? sum / (1.0f + std::exp(-sum)) : sum);
        }
      }
    }
  }
}

}  // namespace

void conv1d_reference(const Conv1dProblem& problem, const Conv1dTensors& tensors) {
  with_element_type(problem.type, [&](auto element) { reference<decltype(element)>(problem, tensors); });
}

}  // namespace vimdeploy
