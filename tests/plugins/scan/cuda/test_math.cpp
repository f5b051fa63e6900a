// The scalar functions of the CUDA kernels, compiled for a host, against double precision.

#include "scan/cuda/math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace vimdeploy::cuda {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Largest relative error over [-range, range]; values that are too small for float32 are left out.
template <typename Found, typename Wanted>
double worst_error(float range, Found found, Wanted wanted) {
  double worst = 0.0;
  for (int i = -100000; i <= 100000; ++i) {
    const float x = static_cast<float>(i) * (range / 100000.0f);
    const double exact = wanted(static_cast<double>(x));
    if (std::fabs(exact) < 1e-37) continue;
    worst = std::max(worst, std::fabs(static_cast<double>(found(x)) - exact) / std::fabs(exact));
  }
  return worst;
}

TEST(CudaMath, SoftplusIsAccurateRelativeToSmallValuesToo) {
  const auto exact = [](double x) { return std::log1p(std::exp(x)); };
  for (float range : {0.01f, 1.0f, 20.0f, 80.0f}) {
    // The argument of the exponential, up to 80, is rounded by at most 80 * 2^-24.
    EXPECT_LT(worst_error(range, softplus, exact), 4e-7 + static_cast<double>(range) * 0x1p-23) << range;
  }
}

TEST(CudaMath, SoftplusOfSpecialNumbers) {
  EXPECT_EQ(softplus(kInfinity), kInfinity);
  EXPECT_EQ(softplus(-kInfinity), 0.0f);
  EXPECT_EQ(softplus(20.0f), 20.0f);
  EXPECT_EQ(softplus(1e30f), 1e30f);
  EXPECT_EQ(softplus(-1e30f), 0.0f);
  EXPECT_TRUE(std::isnan(softplus(std::nanf(""))));
}

TEST(CudaMath, SiluIsAccurateAndOfSpecialNumbersAsTheReference) {
  const auto exact = [](double x) { return x / (1.0 + std::exp(-x)); };
  for (float range : {0.01f, 1.0f, 20.0f, 80.0f}) {
    EXPECT_LT(worst_error(range, silu, exact), 4e-7 + static_cast<double>(range) * 0x1p-23) << range;
  }
  EXPECT_EQ(silu(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(silu(-kInfinity)));
  EXPECT_TRUE(std::isnan(silu(std::nanf(""))));
}

TEST(CudaMath, PackedNumbersKeepTheirValues) {
  alignas(8) const float floats[] = {-1.5f, kInfinity};
  EXPECT_EQ(to_float(load_packed<1>(floats), 0), -1.5f);
  EXPECT_EQ(to_float(load_packed<2>(floats), 0), -1.5f);
  EXPECT_EQ(to_float(load_packed<2>(floats), 1), kInfinity);
  const auto expect_pairs = [](auto type) {
    using T = decltype(type);
    for (float value : {0.0f, -1.5f, 0x1p-24f, kInfinity}) {
      alignas(4) const T pair[] = {from_float<T>(value), from_float<T>(2.0f)};
      EXPECT_EQ(to_float(load_packed<1>(pair), 0), value);
      EXPECT_EQ(to_float(load_packed<2>(pair), 0), value);
      EXPECT_EQ(to_float(load_packed<2>(pair), 1), 2.0f);
      alignas(4) T stored[2];
      store_packed<T, 2>({value, 2.0f}, stored);
      EXPECT_EQ(to_float(stored[0]), value);
      EXPECT_EQ(to_float(stored[1]), 2.0f);
    }
  };
  expect_pairs(Float16());
  expect_pairs(BFloat16());
  EXPECT_EQ(to_float(Packed<Float16, 2>{}, 1), 0.0f);
}

}  // namespace
}  // namespace vimdeploy::cuda
