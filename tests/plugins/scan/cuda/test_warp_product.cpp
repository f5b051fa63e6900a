#include "scan/cuda/warp_product.h"

#include <gtest/gtest.h>

#include <random>

namespace vimdeploy::cuda {
namespace {

// The lane, the word of it and the half of the word that has an element: the tables of PTX for mma.m16n8k16, "Matrix
// Fragments for mma.m16n8k16 with floating point type", written down anew.
struct Place {
  int lane, word, half;
};

Place place_of_a(int row, int column) {
  return {row % 8 * 4 + column % 8 / 2, (row >= 8 ? 1 : 0) + (column >= 8 ? 2 : 0), column % 2};
}

Place place_of_b(int row, int column) { return {column * 4 + row % 8 / 2, row >= 8 ? 1 : 0, row % 2}; }

template <typename T>
void expect_products() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  float a[16][16], b[16][8];
  uint32_t a_words[kWarp][4] = {}, b_words[kWarp][2] = {};
  const auto put = [&](float& value, uint32_t& word, int half) {
    const T rounded = from_float<T>(normal(random));
    value = to_float(rounded);
    word |= uint32_t{rounded.bits} << 16 * half;
  };
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      const Place at = place_of_a(i, j);
      put(a[i][j], a_words[at.lane][at.word], at.half);
    }
    for (int j = 0; j < 8; ++j) {
      const Place at = place_of_b(i, j);
      put(b[i][j], b_words[at.lane][at.word], at.half);
    }
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    float sum[4] = {1, 2, 3, 4};
    add_product<T>(
        lane, [&](int of, int word) { return a_words[of][word]; }, [&](int of, int word) { return b_words[of][word]; },
        sum);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + (i < 2 ? 0 : 8), column = lane % 4 * 2 + i % 2;
      double wanted = i + 1;
      for (int k = 0; k < 16; ++k) wanted += static_cast<double>(a[row][k]) * b[k][column];
      EXPECT_NEAR(sum[i], wanted, 1e-5) << "row " << row << " column " << column;
    }
  }
}

TEST(CudaWarpProduct, IsTheProductOfWhatTheLanesHold) {
  expect_products<Float16>();
  expect_products<BFloat16>();
}

}  // namespace
}  // namespace vimdeploy::cuda
