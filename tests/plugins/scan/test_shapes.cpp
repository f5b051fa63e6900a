#include "scan/shapes.h"

#include <gtest/gtest.h>

namespace vimdeploy {
namespace {

// K 2, B 3, L 5, E 8, N 4, R 6, W 7: all sizes are different.
const std::vector<Shape> kConv = {{3, 5, 16}, {2, 8, 7}, {2, 8}};
const std::vector<Shape> kScan = {{2, 3, 5, 8}, {3, 5, 16}, {2, 3, 5, 14}, {2, 8, 6}, {2, 8}, {2, 8, 4}, {2, 8}};

std::string conv_error(std::vector<Shape> shapes) {
  Conv1dProblem problem;
  problem.reverse = {0, 1};
  return sizes_from_shapes<BidirectionalConv1dOperator>(shapes, problem).message();
}

std::string scan_error(size_t input, const Shape& shape) {
  auto shapes = kScan;
  shapes[input] = shape;
  SelectiveScanProblem problem;
  problem.reverse = {0, 1};
  return sizes_from_shapes<BidirectionalScanOperator>(shapes, problem).message();
}

TEST(Shapes, GiveTheSizesOfAConvolution) {
  Conv1dProblem problem;
  problem.reverse = {0, 1};
  ASSERT_TRUE(sizes_from_shapes<BidirectionalConv1dOperator>(kConv, problem).ok());
  EXPECT_EQ(problem.batch, 3);
  EXPECT_EQ(problem.tokens, 5);
  EXPECT_EQ(problem.channels, 8);
  EXPECT_EQ(problem.width, 7);
  EXPECT_EQ(output_shape(problem), (Shape{2, 3, 5, 8}));
}

TEST(Shapes, GiveTheSizesOfAScan) {
  SelectiveScanProblem problem;
  problem.reverse = {0, 1};
  ASSERT_TRUE(sizes_from_shapes<BidirectionalScanOperator>(kScan, problem).ok());
  EXPECT_EQ(problem.batch, 3);
  EXPECT_EQ(problem.tokens, 5);
  EXPECT_EQ(problem.channels, 8);
  EXPECT_EQ(problem.states, 4);
  EXPECT_EQ(problem.rank, 6);
  EXPECT_EQ(output_shape(problem), (Shape{3, 5, 8}));
}

TEST(Shapes, ErrorsNameTheInputWithWhatWasWantedAndFound) {
  EXPECT_EQ(conv_error({{3, 5, 16}, {2, 8, 7}}), "BidirectionalConv1d: found 2 inputs, wanted 3");
  EXPECT_EQ(conv_error({{3, 16}, {2, 8, 7}, {2, 8}}),
            "BidirectionalConv1d: input xz has shape (3, 16), wanted (B, L, 2E)");
  EXPECT_EQ(conv_error({{3, 5, 15}, {2, 8, 7}, {2, 8}}),
            "BidirectionalConv1d: input xz has shape (3, 5, 15), wanted (B, L, 2E) with an even last size");
  EXPECT_EQ(conv_error({{3, 5, 16}, {1, 8, 7}, {2, 8}}),
            "BidirectionalConv1d: input weight has shape (1, 8, 7), wanted (K, E, W) = (2, 8, 7)");
  EXPECT_EQ(conv_error({{3, 5, 16}, {2, 8, 7}, {2, 9}}),
            "BidirectionalConv1d: input bias has shape (2, 9), wanted (K, E) = (2, 8)");
  EXPECT_EQ(scan_error(2, {2, 3, 5, 13}),
            "BidirectionalSelectiveScan: input dt_bc has shape (2, 3, 5, 13), wanted (K, B, L, R+2N) = (2, 3, 5, 14)");
}

TEST(Shapes, EveryInputOfAScanIsHeldAgainstTheOthers) {
  const char* names[] = {"u", "xz", "dt_bc", "dt_weight", "dt_bias", "A", "D"};
  for (size_t input = 0; input < kScan.size(); ++input) {
    const std::string begin = std::string("BidirectionalSelectiveScan: input ") + names[input] + " has shape ";
    for (size_t axis = 0; axis < kScan[input].size(); ++axis) {
      Shape shape = kScan[input];
      ++shape[axis];
      EXPECT_NE(scan_error(input, shape), "") << names[input] << " axis " << axis;
    }
    Shape shape = kScan[input];
    shape.push_back(1);
    EXPECT_EQ(scan_error(input, shape).substr(0, begin.size()), begin);
    EXPECT_EQ(scan_error(input, {}).substr(0, begin.size()), begin);
  }
}

}  // namespace
}  // namespace vimdeploy
