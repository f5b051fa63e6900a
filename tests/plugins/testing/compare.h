// Compares a kernel's result with the reference, element by element, and reports the worst one and its index.

#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "testing/random_tensors.h"

namespace vimdeploy::testing {

inline constexpr float kEpsilon = 0x1p-24f;  // half a unit in the last place of float32: one rounding

// Two results that are almost equal may round to neighbours in T: one unit in the last place.
inline float unit_of(ElementType type) {
  return type == ElementType::float32 ? 0.0f : type == ElementType::float16 ? 0x1p-10f : 0x1p-7f;
}

// Absolute tolerance near zero: float16 is spaced 2^-24 there; exp2 flushes results below 2^-126 to zero.
inline float floor_of(ElementType type) { return type == ElementType::float16 ? 0x1p-24f : 0x1p-122f; }

inline std::string place_of(int64_t index, const std::vector<int64_t>& shape) {
  std::string place = "]";
  for (size_t axis = shape.size(); axis-- > 0;) {
    place = std::to_string(index % shape[axis]) + (place == "]" ? "" : ", ") + place;
    index /= shape[axis];
  }
  return "[" + place;
}

// Whether |found - wanted| <= roundings * kEpsilon * magnitude, plus the rounding to T. `magnitude` is the sum of the
// absolute values of the terms of `wanted`. NaN and infinity must be the same on both sides.
inline ::testing::AssertionResult is_close(const Tensor& found, const Tensor& wanted,
                                           const std::vector<float>& magnitude, float roundings,
                                           const std::vector<int64_t>& shape) {
  int64_t worst = -1;
  float worst_ratio = 1.0f;
  for (int64_t i = 0; i < wanted.size(); ++i) {
    const float f = found.get(i), w = wanted.get(i);
    if ((std::isnan(f) && std::isnan(w)) || f == w) continue;
    const float tolerance = roundings * kEpsilon * magnitude[static_cast<size_t>(i)] +
                            unit_of(wanted.type) * std::fabs(w) + floor_of(wanted.type);
    const float distance = std::fabs(f - w);
    const float ratio = std::isfinite(distance) ? distance / tolerance : std::numeric_limits<float>::infinity();
    if (ratio > worst_ratio) worst = i, worst_ratio = ratio;
  }
  if (worst < 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "worst at " << place_of(worst, shape) << ": found " << found.get(worst)
                                       << ", wanted " << wanted.get(worst) << ", " << worst_ratio
                                       << " times the tolerance";
}

}  // namespace vimdeploy::testing
