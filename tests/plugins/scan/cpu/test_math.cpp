// exp2, softplus and silu of every instruction set against double precision.

#include "scan/cpu/instruction_sets.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "scan/cpu/test_math.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include "scan/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {
namespace {

// Each maps `count` numbers; `count` is a multiple of every number of lanes.
void exp2_all(const float* in, size_t count, float* out) {
  const hn::ScalableTag<float> d;
  for (size_t i = 0; i < count; i += hn::Lanes(d)) hn::StoreU(exp2(d, hn::LoadU(d, in + i)), d, out + i);
}

void softplus_all(const float* in, size_t count, float* out) {
  const hn::ScalableTag<float> d;
  for (size_t i = 0; i < count; i += hn::Lanes(d)) {
    hn::VFromD<decltype(d)> x[] = {hn::LoadU(d, in + i)};
    softplus(d, x);
    hn::StoreU(x[0], d, out + i);
  }
}

void silu_all(const float* in, size_t count, float* out) {
  const hn::ScalableTag<float> d;
  for (size_t i = 0; i < count; i += hn::Lanes(d)) hn::StoreU(silu(d, hn::LoadU(d, in + i)), d, out + i);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace vimdeploy
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vimdeploy {
namespace {

using Map = void(const float* in, size_t count, float* out);
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> apply(Map* map, std::vector<float> in) {
  const size_t count = in.size();
  in.resize((count + 15) / 16 * 16);
  std::vector<float> out(in.size());
  map(in.data(), in.size(), out.data());
  out.resize(count);
  return out;
}

std::vector<float> range(float begin, float end, int count) {
  std::vector<float> values;
  for (int i = 0; i <= count; ++i)
    values.push_back(begin + (end - begin) * static_cast<float>(i) / static_cast<float>(count));
  return values;
}

void expect_relative_error(const Kernel<Map>& kernel, const std::vector<float>& in,
                           const std::function<double(double)>& wanted, double limit) {
  const std::vector<float> out = apply(kernel.run, in);
  double worst = 0;
  float where = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    const double exact = wanted(in[i]);
    const double error = exact == 0 ? std::fabs(out[i]) : std::fabs((out[i] - exact) / exact);
    if (!(error <= worst)) worst = error, where = in[i];
  }
  EXPECT_LE(worst, limit) << name_of_instruction_set(kernel.target) << " at " << where;
}

// Limit: 8e-8 to 9e-8 from the polynomial, and about two roundings of 6e-8.
TEST(Exp2, IsWithin2e7OfTheValue) {
  for (const auto& kernel : kernels_that_run_here<Map>(VIMDEPLOY_KERNELS(exp2_all))) {
    expect_relative_error(kernel, range(-125.99f, 127.99f, 1 << 20), [](double x) { return std::exp2(x); }, 2e-7);
    expect_relative_error(kernel, range(-1e-3f, 1e-3f, 1 << 12), [](double x) { return std::exp2(x); }, 2e-7);
  }
}

TEST(Exp2, IsRightAtTheEnds) {
  for (const auto& kernel : kernels_that_run_here<Map>(VIMDEPLOY_KERNELS(exp2_all))) {
    SCOPED_TRACE(name_of_instruction_set(kernel.target));
    EXPECT_EQ(apply(kernel.run, {0.0f, -0.0f, 1e-40f, -1e-40f}), (std::vector<float>{1, 1, 1, 1}));
    EXPECT_EQ(apply(kernel.run, {128.0f, 1e4f, 3e38f, kInfinity}), std::vector<float>(4, kInfinity));
    EXPECT_EQ(apply(kernel.run, {-151.0f, -1e4f, -1e9f, -1e30f, -3e38f, -kInfinity}), std::vector<float>(6, 0.0f));
    for (float tiny : apply(kernel.run, range(-150.0f, -126.0f, 1000))) {
      EXPECT_GE(tiny, 0.0f);
      EXPECT_LE(tiny, 0x1.000004p-126f);
    }
    EXPECT_TRUE(std::isnan(apply(kernel.run, {std::nanf("")})[0]));
  }
}

// Limit: 2e-7 from exp2, 3e-8 from the polynomial of log1p, and three roundings.
TEST(Softplus, IsWithin4e7OfTheValue) {
  for (const auto& kernel : kernels_that_run_here<Map>(VIMDEPLOY_KERNELS(softplus_all))) {
    // The rounded argument of exp2 adds |x| * 6e-8, in the first range at most 6e-7.
    const auto wanted = [](double x) { return x > 700 ? x : std::log1p(std::exp(x)); };
    expect_relative_error(kernel, range(-10.0f, 100.0f, 1 << 18), wanted, 1e-6);
    expect_relative_error(kernel, range(-1.0f, 100.0f, 1 << 18), wanted, 4e-7);
    expect_relative_error(kernel, range(-87.0f, -10.0f, 1 << 16), wanted, 6e-6);
  }
}

TEST(Softplus, IsRightAtTheEnds) {
  for (const auto& kernel : kernels_that_run_here<Map>(VIMDEPLOY_KERNELS(softplus_all))) {
    SCOPED_TRACE(name_of_instruction_set(kernel.target));
    EXPECT_EQ(apply(kernel.run, {20.5f, 1e4f, 3e38f, kInfinity}), (std::vector<float>{20.5f, 1e4f, 3e38f, kInfinity}));
    EXPECT_EQ(apply(kernel.run, {-200.0f, -1e30f, -kInfinity}), std::vector<float>(3, 0.0f));
    EXPECT_TRUE(std::isnan(apply(kernel.run, {std::nanf("")})[0]));
  }
}

TEST(Silu, IsWithin5e7OfTheValue) {
  for (const auto& kernel : kernels_that_run_here<Map>(VIMDEPLOY_KERNELS(silu_all))) {
    const auto wanted = [](double x) { return x / (1 + std::exp(-x)); };
    expect_relative_error(kernel, range(-2.0f, 100.0f, 1 << 18), wanted, 5e-7);
    expect_relative_error(kernel, range(-80.0f, -2.0f, 1 << 16), wanted,
                          6e-6);  // the rounded argument of exp2, as above
  }
}

TEST(Silu, IsRightAtTheEnds) {
  for (const auto& kernel : kernels_that_run_here<Map>(VIMDEPLOY_KERNELS(silu_all))) {
    SCOPED_TRACE(name_of_instruction_set(kernel.target));
    EXPECT_EQ(apply(kernel.run, {0.0f, 1e4f, kInfinity}), (std::vector<float>{0.0f, 1e4f, kInfinity}));
    EXPECT_EQ(apply(kernel.run, {-200.0f, -1e30f}), std::vector<float>(2, 0.0f));
    const auto nans = apply(kernel.run, {-kInfinity, std::nanf("")});  // -inf * 0, as in the definition
    EXPECT_TRUE(std::isnan(nans[0]) && std::isnan(nans[1]));
  }
}

}  // namespace
}  // namespace vimdeploy
#endif
