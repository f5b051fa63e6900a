#include "scan/element.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace vimdeploy {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The value of the bits of a small floating-point format, by the format's definition.
double value_by_definition(uint32_t bits, int exponent_bits, int fraction_bits) {
  const double sign = bits >> (exponent_bits + fraction_bits) ? -1.0 : 1.0;
  const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const double fraction = static_cast<double>(bits & ((1u << fraction_bits) - 1)) / (1 << fraction_bits);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction == 0 ? sign * kInfinity : std::nan("");
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
  return sign * std::ldexp(1.0 + fraction, exponent - bias);
}

template <typename T>
void expect_all_values_go_there_and_back(int exponent_bits, int fraction_bits) {
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const T value{static_cast<uint16_t>(bits)};
    const double wanted = value_by_definition(bits, exponent_bits, fraction_bits);
    const float found = to_float(value);
    if (std::isnan(wanted)) {
      ASSERT_TRUE(std::isnan(found)) << std::hex << bits;
      ASSERT_TRUE(std::isnan(to_float(from_float<T>(found)))) << std::hex << bits;
    } else {
      ASSERT_EQ(found, static_cast<float>(wanted)) << std::hex << bits;
      ASSERT_EQ(from_float<T>(found).bits, bits);
    }
  }
}

// Between any two neighbours: just below the midpoint, the midpoint (to even), just above it.
template <typename T>
void expect_rounding_to_nearest_even(uint16_t largest) {
  for (uint16_t bits = 0; bits < largest; ++bits) {
    const float low = to_float(T{bits}), high = to_float(T{static_cast<uint16_t>(bits + 1)});
    const float middle = low + (high - low) / 2;
    const auto even = static_cast<uint16_t>(bits + (bits & 1));
    ASSERT_EQ(from_float<T>(middle).bits, even);
    ASSERT_EQ(from_float<T>(-middle).bits, even | 0x8000);
    ASSERT_EQ(from_float<T>(std::nextafter(middle, 0.0f)).bits, bits);
    ASSERT_EQ(from_float<T>(std::nextafter(middle, kInfinity)).bits, bits + 1);
  }
}

TEST(Float16, EveryValueGoesThereAndBack) { expect_all_values_go_there_and_back<Float16>(5, 10); }

TEST(BFloat16, EveryValueGoesThereAndBack) { expect_all_values_go_there_and_back<BFloat16>(8, 7); }

TEST(Float16, RoundsToNearestEven) { expect_rounding_to_nearest_even<Float16>(0x7bff); }

TEST(BFloat16, RoundsToNearestEven) { expect_rounding_to_nearest_even<BFloat16>(0x7f7f); }

TEST(Float16, OverflowsToInfinityFrom65520) {
  EXPECT_EQ(to_float(from_float<Float16>(65504.0f)), 65504.0f);
  EXPECT_EQ(to_float(from_float<Float16>(65519.99f)), 65504.0f);
  EXPECT_EQ(to_float(from_float<Float16>(65520.0f)), kInfinity);
  EXPECT_EQ(to_float(from_float<Float16>(-1e30f)), -kInfinity);
  EXPECT_EQ(to_float(from_float<Float16>(kInfinity)), kInfinity);
}

TEST(BFloat16, OverflowsToInfinity) {
  EXPECT_EQ(to_float(from_float<BFloat16>(std::numeric_limits<float>::max())), kInfinity);
}

TEST(ElementTypes, HaveTheContractsNames) {
  EXPECT_STREQ(name_of(ElementType::float32), "float32");
  EXPECT_STREQ(name_of(ElementType::float16), "float16");
  EXPECT_STREQ(name_of(ElementType::bfloat16), "bfloat16");
}

}  // namespace
}  // namespace vimdeploy
