// A warp's product of two small matrices on tensor cores, which the scan uses for the low rank of the step sizes.

#pragma once

#include <cstdint>

#include "scan/cuda/layout.h"
#include "scan/cuda/math.h"
#include "scan/element.h"
#include "scan/host_device.h"

namespace vimdeploy::cuda {

inline constexpr int kWarp = 32;

// What a lane holds of `tiles` products: sum += a * b with 16 x kInner numbers of T in every a, kInner x 8 in b, which
// all products share, and 16 x 8 in every sum. A word is two numbers of 16 bits, the lower half first. Lane 4 * g + c
// has, as PTX lays out mma.m16n8k16:
//
//   a[0], a[2]  row g, columns 2c and 2c + 1, 2c + 8 and 2c + 9
//   a[1], a[3]  row g + 8, the same columns
//   b[0], b[1]  column g, rows 2c and 2c + 1, 2c + 8 and 2c + 9
//   sum[0 .. 1] row g, columns 2c and 2c + 1
//   sum[2 .. 3] row g + 8, the same columns
template <int tiles>
struct WarpProduct {
  static constexpr int kTiles = tiles;
  uint32_t a[tiles][4];
  uint32_t b[2];
  float sum[tiles][4];
};

// A lane's part of sum += a * b in plain arithmetic: a_of(lane, i) and b_of(lane, i) are words of any lane of the warp.
// For a CPU, and for bfloat16 on Turing, whose tensor cores do not know it.
template <typename T, typename AOf, typename BOf>
VIMDEPLOY_HD void add_product(int lane, AOf&& a_of, BOf&& b_of, float (&sum)[4]) {
  const int quad = lane & ~3, in_quad = lane & 3;
  const auto low = [](uint32_t word) { return to_float(T{static_cast<uint16_t>(word)}); };
  const auto high = [](uint32_t word) { return to_float(T{static_cast<uint16_t>(word >> 16)}); };
  VIMDEPLOY_UNROLL
  for (int pair = 0; pair < kInner / 2; ++pair) {
    VIMDEPLOY_UNROLL
    for (int i = 0; i < 4; ++i) {
      const uint32_t a = a_of(quad + pair % 4, i / 2 + pair / 4 * 2);
      const uint32_t b = b_of((2 * in_quad + i % 2) * 4 + pair % 4, pair / 4);
      sum[i] += low(a) * low(b);
      sum[i] += high(a) * high(b);
    }
  }
}

}  // namespace vimdeploy::cuda
