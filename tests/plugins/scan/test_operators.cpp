#include "scan/operators.h"

#include <gtest/gtest.h>

#include "scan/shapes.h"

namespace vimdeploy {
namespace {

template <typename Operator>
void expect_output_from_inputs(const std::vector<Shape>& inputs, typename Operator::Problem problem) {
  ASSERT_EQ(inputs.size(), std::size(Operator::kInputs));
  ASSERT_TRUE(sizes_from_shapes<Operator>(inputs, problem).ok());
  Shape found;
  for (const InputAxis& from : output_axes<Operator>()) found.push_back(inputs[from.input][from.axis]);
  EXPECT_EQ(found, output_shape(problem));
}

TEST(Operators, TheOutputsSizesAreAxesOfTheInputs) {
  Conv1dProblem conv1d;
  conv1d.reverse = {0, 1};
  expect_output_from_inputs<BidirectionalConv1dOperator>({{7, 5, 12}, {2, 6, 4}, {2, 6}}, conv1d);
  SelectiveScanProblem scan;
  scan.reverse = {0, 1};
  expect_output_from_inputs<BidirectionalScanOperator>(
      {{2, 7, 5, 6}, {7, 5, 12}, {2, 7, 5, 11}, {2, 6, 3}, {2, 6}, {2, 6, 4}, {2, 6}}, scan);
}

}  // namespace
}  // namespace vimdeploy
