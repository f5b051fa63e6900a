// Tolerances for a kernel's result: the reference adds the same terms in another order.

#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "scan/reference/operators.h"
#include "testing/random_tensors.h"

namespace vimdeploy::testing {

inline std::string describe(const Conv1dProblem& p) {
  std::string text = std::string(p.name) + " " + name_of(p.type) + " B " + std::to_string(p.batch) + " L " +
                     std::to_string(p.tokens) + " E " + std::to_string(p.channels) + " W " + std::to_string(p.width) +
                     " X " + std::to_string(p.row) + " silu " + std::to_string(p.silu) + " reverse";
  for (int64_t flag : p.reverse) text += " " + std::to_string(flag);
  return text;
}

// |bias| + sum |weight * x| for every element of u.
inline std::vector<float> magnitudes(const Conv1dCase& c) {
  const auto& p = c.problem;
  std::vector<float> sums;
  for (int64_t k = 0; k < p.directions(); ++k) {
    for (int64_t bl = 0; bl < p.batch * p.tokens; ++bl) {
      for (int64_t e = 0; e < p.channels; ++e) {
        const int64_t l = bl % p.tokens;
        float sum = std::fabs(c.bias.get(k * p.channels + e));
        for (int64_t w = 0; w < p.width; ++w) {
          const int64_t offset = p.reverse[static_cast<size_t>(k)] ? p.width - 1 - w : w - p.width + 1;
          if (l + offset < 0 || l + offset >= p.tokens) continue;
          sum += std::fabs(c.weight.get((k * p.channels + e) * p.width + w) * c.x.get((bl + offset) * p.row + e));
        }
        sums.push_back(sum);
      }
    }
  }
  return sums;
}

// One rounding for each of the W + 1 terms, in kernel and reference, and ten for silu, whose slope is at most 1.1.
inline float roundings(const Conv1dProblem& problem) {
  return 1.1f * 2.0f * static_cast<float>(problem.width + 1) + 10.0f;
}

inline std::string describe(const SelectiveScanProblem& p) {
  std::string text = std::string(p.name) + " " + name_of(p.type) + " B " + std::to_string(p.batch) + " L " +
                     std::to_string(p.tokens) + " E " + std::to_string(p.channels) + " N " + std::to_string(p.states) +
                     " R " + std::to_string(p.rank) + " softplus " + std::to_string(p.delta_softplus) + " reverse";
  for (int64_t flag : p.reverse) text += " " + std::to_string(flag);
  return text;
}

inline Tensor absolute_float32(const Tensor& from) {
  Tensor to(ElementType::float32, from.size());
  for (int64_t i = 0; i < from.size(); ++i) to.set(i, std::fabs(from.get(i)));
  return to;
}

inline Tensor float32(const Tensor& from) {
  Tensor to(ElementType::float32, from.size());
  for (int64_t i = 0; i < from.size(); ++i) to.set(i, from.get(i));
  return to;
}

// The same scan with the absolute value of every term; step sizes are kept.
inline std::vector<float> magnitudes(const SelectiveScanCase& c) {
  SelectiveScanCase positive = c;
  positive.problem.type = ElementType::float32;
  positive.u = absolute_float32(c.u);
  positive.xz = float32(c.xz);
  positive.delta = float32(c.delta);
  positive.B = absolute_float32(c.B);
  positive.C = absolute_float32(c.C);
  positive.dt_weight = float32(c.dt_weight);
  positive.dt_bc = float32(c.dt_bc);
  const int64_t row = c.problem.rank + 2 * c.problem.states;
  for (int64_t i = 0; i < c.dt_bc.size(); ++i) {
    if (i % row >= c.problem.rank) positive.dt_bc.set(i, std::fabs(c.dt_bc.get(i)));
  }
  for (float& d : positive.D) d = std::fabs(d);
  positive.y = Tensor(ElementType::float32, c.y.size());
  selective_scan_reference(positive.problem, positive.tensors(positive.y));
  std::vector<float> sums;
  for (int64_t i = 0; i < positive.y.size(); ++i) sums.push_back(std::fabs(positive.y.get(i)));
  return sums;
}

// A state goes through L steps, each with an exponential (4 roundings of 2^-24, and as much for its rounded argument),
// a multiplication and an addition, in kernel and reference; the step size has R terms, y has N, and softplus and silu
// add a few roundings.
inline float roundings(const SelectiveScanProblem& p) {
  return 16.0f * static_cast<float>(p.tokens) + 8.0f * static_cast<float>(p.rank + p.states);
}

}  // namespace vimdeploy::testing
