#include "scan/shapes.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <utility>

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
            "BidirectionalConv1d: input xz has shape (3, 5, 15), wanted (B, L, 2E) = (3, 5, 16)");
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

// B 3, G 2, L 5, E 8, N 4, R 6; X 11, K 2, W 7.
Sizes sizes() {
  Sizes sizes;
  for (auto [letter, size] : std::initializer_list<std::pair<char, int64_t>>{
           {'B', 3}, {'G', 2}, {'L', 5}, {'E', 8}, {'N', 4}, {'R', 6}, {'X', 11}, {'K', 2}, {'W', 7}}) {
    sizes.set(letter, size);
  }
  return sizes;
}

template <typename Operator>
std::vector<Shape> shapes_of() {
  std::vector<Shape> shapes;
  for (const TensorSpec& input : Operator::kInputs) shapes.push_back(shape_of(input, sizes()));
  return shapes;
}

template <typename Operator>
std::string error_of(const std::vector<Shape>& shapes) {
  auto problem = Operator::problem();
  problem.reverse = {0, 1};
  return sizes_from_shapes<Operator>(shapes, problem).message();
}

TEST(Shapes, DimensionsAreSumsOfLetters) {
  EXPECT_EQ(shape_of({"dt_bc", "(K, B, L, R+2N)", "T"}, sizes()), (Shape{2, 3, 5, 14}));
  EXPECT_EQ(shape_of({"xz", "(B, L, 2E)", "T"}, sizes()), (Shape{3, 5, 16}));
}

TEST(Shapes, GiveTheSizesOfScansOfGroups) {
  auto problem = LowRankScanOperator::problem();
  problem.reverse = {0, 1};
  ASSERT_TRUE(sizes_from_shapes<LowRankScanOperator>(shapes_of<LowRankScanOperator>(), problem).ok());
  EXPECT_EQ(problem.batch, 3);
  EXPECT_EQ(problem.tokens, 5);
  EXPECT_EQ(problem.channels, 8);
  EXPECT_EQ(problem.states, 4);
  EXPECT_EQ(problem.rank, 6);
  EXPECT_EQ(output_shape(problem), (Shape{3, 2, 5, 8}));
  auto given = SelectiveScanOperator::problem();
  given.reverse = {0, 1};
  ASSERT_TRUE(sizes_from_shapes<SelectiveScanOperator>(shapes_of<SelectiveScanOperator>(), given).ok());
  EXPECT_EQ(given.rank, 0);
}

TEST(Shapes, GiveTheRowOfAConvolution) {
  auto problem = CausalConv1dOperator::problem();
  problem.reverse = {0, 1};
  auto shapes = shapes_of<CausalConv1dOperator>();
  ASSERT_TRUE(sizes_from_shapes<CausalConv1dOperator>(shapes, problem).ok());
  EXPECT_EQ(problem.row, 11);
  EXPECT_EQ(output_shape(problem), (Shape{2, 3, 5, 8}));
  Conv1dProblem both;
  both.reverse = {0, 1};
  ASSERT_TRUE(sizes_from_shapes<BidirectionalConv1dOperator>(kConv, both).ok());
  EXPECT_EQ(both.row, 16);
  shapes[0][2] = 7;
  EXPECT_EQ(error_of<CausalConv1dOperator>(shapes), "CausalConv1d: X (channels of x) is 7, wanted at least 8");
}

TEST(Shapes, ALowRankHasAtLeastOneNumber) {
  auto shapes = shapes_of<LowRankScanOperator>();
  shapes[1][3] = shapes[7][2] = 0;
  EXPECT_EQ(error_of<LowRankScanOperator>(shapes), "LowRankSelectiveScan: R (rank) is 0, wanted at least 1");
}

TEST(Shapes, EveryInputOfEveryOperatorIsHeldAgainstTheOthers) {
  for_each_operator([](auto op) {
    using Operator = decltype(op);
    EXPECT_EQ(error_of<Operator>(shapes_of<Operator>()), "");
    for (size_t input = 0; input < std::size(Operator::kInputs); ++input) {
      const std::string name = Operator::kInputs[input].name;
      for (size_t axis = 0; axis < shapes_of<Operator>()[input].size(); ++axis) {
        auto shapes = shapes_of<Operator>();
        ++shapes[input][axis];
        // The convolutions' B, L, W and X are the sizes of one input alone.
        const bool is_free = input == 0 ? name == "x" || (name == "xz" && axis < 2) : name == "weight" && axis == 2;
        EXPECT_EQ(error_of<Operator>(shapes).empty(), is_free) << Operator::kName << " " << name << " axis " << axis;
      }
      auto shapes = shapes_of<Operator>();
      shapes[input].pop_back();
      const std::string begin = std::string(Operator::kName) + ": input " + name + " has shape (";
      EXPECT_EQ(error_of<Operator>(shapes).substr(0, begin.size()), begin);
    }
  });
}

}  // namespace
}  // namespace vimdeploy
