// Loads and stores of rows, for every instruction set and type: the same numbers as the scalar conversions give, and no
// access beyond the row.

#include "scan/cpu/instruction_sets.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "scan/cpu/test_rows.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include "scan/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {
namespace {

void load(ElementType type, const void* from, int64_t count, float* to) {
  with_element_type(type, [&](auto element) { load_row(static_cast<const decltype(element)*>(from), count, to); });
}

void store(ElementType type, const float* from, int64_t count, void* to) {
  with_element_type(type, [&](auto element) {
    auto* elements = static_cast<decltype(element)*>(to);
    for (int64_t i = 0; i < count; i += kLanes) {
      const auto left = static_cast<size_t>(std::min(kLanes, count - i));
      store_float(Tag(), hn::LoadN(Tag(), from + i, left), left, elements + i);
    }
  });
}

int64_t pack(const float* from, int64_t channels, int64_t count, float factor, float* to) {
  pack_vector(from, channels, count, factor, to);
  return kLanes;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace vimdeploy
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "testing/hosts.h"
#include "testing/random_tensors.h"

namespace vimdeploy {
namespace {

using testing::GuardedMemory;
using testing::Tensor;
using Load = void(ElementType type, const void* from, int64_t count, float* to);
using Store = void(ElementType type, const float* from, int64_t count, void* to);
using Pack = int64_t(const float* from, int64_t channels, int64_t count, float factor, float* to);

constexpr int64_t kLongestVector = 16;

struct alignas(64) AlignedFloats {
  float values[1024];
};

TEST(LoadRow, GivesEveryValueOfTheSmallTypes) {
  for (const auto& kernel : kernels_that_run_here<Load>(VIMDEPLOY_KERNELS(load))) {
    SCOPED_TRACE(name_of_instruction_set(kernel.target));
    for (ElementType type : {ElementType::float16, ElementType::bfloat16}) {
      Tensor row(type, 1024);
      AlignedFloats found;
      for (uint32_t first = 0; first < 0x10000u; first += 1024) {
        for (uint32_t i = 0; i < 1024; ++i) {
          const auto bits = static_cast<uint16_t>(first + i);
          std::memcpy(row.bytes.data() + 2 * i, &bits, 2);
        }
        kernel.run(type, row.data(), 1024, found.values);
        for (int64_t i = 0; i < 1024; ++i) {
          const float wanted = row.get(i);
          if (std::isnan(wanted)) {
            ASSERT_TRUE(std::isnan(found.values[i])) << name_of(type) << " " << first + i;
          } else {
            ASSERT_EQ(bits_of(found.values[i]), bits_of(wanted)) << name_of(type) << " " << first + i;
          }
        }
      }
    }
  }
}

TEST(StoreFloat, RoundsAsTheScalarConversionDoes) {
  for (const auto& kernel : kernels_that_run_here<Store>(VIMDEPLOY_KERNELS(store))) {
    SCOPED_TRACE(name_of_instruction_set(kernel.target));
    for (ElementType type : {ElementType::float16, ElementType::bfloat16}) {
      Tensor found(type, 1024), wanted(type, 1024);
      AlignedFloats row;
      // All exponents and signs, with fractions at, next to and between the midpoints.
      for (uint32_t high = 0; high < 0x10000u; high += 16) {
        const uint32_t lows[] = {0, 1, 0x0fff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x7fff, 0x8000, 0x8001, 0xf000, 0xffff};
        for (uint32_t i = 0; i < 1024; ++i) row.values[i] = float_of((high + i / 64) << 16 | lows[i % 12]);
        for (int64_t i = 0; i < 1024; ++i) wanted.set(i, row.values[i]);
        kernel.run(type, row.values, 1024, found.data());
        for (int64_t i = 0; i < 1024; ++i) {
          if (std::isnan(row.values[i])) {
            ASSERT_TRUE(std::isnan(found.get(i))) << name_of(type) << " of " << std::hex << bits_of(row.values[i]);
          } else {
            ASSERT_EQ(bits_of(found.get(i)), bits_of(wanted.get(i)))
                << name_of(type) << " of " << std::hex << bits_of(row.values[i]);
          }
        }
      }
    }
  }
}

TEST(LoadRow, FillsTheLastVectorWithZerosAndReadsNothingBehindTheRow) {
  for (const auto& kernel : kernels_that_run_here<Load>(VIMDEPLOY_KERNELS(load))) {
    for (ElementType type : kElementTypes) {
      for (int64_t count = 1; count <= 33; ++count) {
        // On the heap and of the exact size, so that AddressSanitizer detects a read past its end.
        Tensor row(type, count);
        for (int64_t i = 0; i < count; ++i) row.set(i, static_cast<float>(i + 1));
        AlignedFloats found;
        std::fill_n(found.values, 1024, -1.0f);
        kernel.run(type, row.data(), count, found.values);
        int64_t i = 0;
        for (; i < count; ++i) EXPECT_EQ(found.values[i], static_cast<float>(i + 1));
        for (; found.values[i] == 0.0f; ++i) continue;
        EXPECT_LE(i, (count + kLongestVector - 1) / kLongestVector * kLongestVector);
        EXPECT_EQ(found.values[i], -1.0f);
      }
    }
  }
}

TEST(StoreFloat, WritesNothingBehindTheRow) {
  for (const auto& kernel : kernels_that_run_here<Store>(VIMDEPLOY_KERNELS(store))) {
    AlignedFloats row;
    std::iota(row.values, row.values + 1024, 1.0f);
    for (ElementType type : kElementTypes) {
      for (int64_t count = 1; count <= 33; ++count) {
        GuardedMemory memory(static_cast<size_t>(count * bytes_of(type)));
        kernel.run(type, row.values, count, memory.data());
        EXPECT_TRUE(memory.is_intact()) << name_of(type) << " " << count;
      }
    }
  }
}

TEST(PackVector, PutsChannelsSideBySideAndZerosBehindThem) {
  for (const auto& kernel : kernels_that_run_here<Pack>(VIMDEPLOY_KERNELS(pack))) {
    const float weights[] = {1, 2, 3, 4, 5, 6};  // (3 channels, 2)
    float packed[2 * kLongestVector];
    const int64_t lanes = kernel.run(weights, 3, 2, 10.0f, packed);
    for (int64_t i = 0; i < 2; ++i) {
      for (int64_t c = 0; c < lanes; ++c) {
        EXPECT_EQ(packed[i * lanes + c], c < 3 ? weights[c * 2 + i] * 10.0f : 0.0f);
      }
    }
  }
}

}  // namespace
}  // namespace vimdeploy
#endif
