#include "scan/problem.h"

#include <gtest/gtest.h>

namespace vimdeploy {
namespace {

Conv1dProblem conv() { return {ElementType::float32, 1, 5, 3, 4, {0, 1}}; }
SelectiveScanProblem scan() { return {ElementType::float32, 1, 5, 3, 2, 1, {0, 1}, 0.5f}; }

TEST(Check, AcceptsEveryNumberOfDirectionsAndEmptyTensors) {
  auto problem = scan();
  EXPECT_TRUE(check(problem).ok());
  problem.reverse = {1, 1, 0, 1, 0};
  problem.batch = 0;
  EXPECT_TRUE(check(problem).ok());
  problem.tokens = 0;
  EXPECT_TRUE(check(problem).ok());
  EXPECT_TRUE(check(conv()).ok());
}

TEST(Check, NamesTheSizeThatIsWrong) {
  auto problem = scan();
  problem.states = 0;
  EXPECT_EQ(check(problem).message(), "BidirectionalSelectiveScan: N (states) is 0, wanted at least 1");
  problem = scan();
  problem.rank = -1;
  EXPECT_EQ(check(problem).message(), "BidirectionalSelectiveScan: R (rank) is -1, wanted at least 0");
  problem = scan();
  problem.tokens = -1;
  EXPECT_EQ(check(problem).message(), "BidirectionalSelectiveScan: L (tokens) is -1, wanted at least 0");
  auto convolution = conv();
  convolution.width = 0;
  EXPECT_EQ(check(convolution).message(), "BidirectionalConv1d: W (width) is 0, wanted at least 1");
  convolution = conv();
  convolution.channels = 0;
  EXPECT_EQ(check(convolution).message(), "BidirectionalConv1d: E (channels) is 0, wanted at least 1");
}

TEST(Check, RefusesSizesWhoseDoubleWouldNotFit) {
  auto problem = scan();
  problem.tokens = 0;
  problem.channels = int64_t{1} << 62;
  EXPECT_EQ(check(problem).message(),
            "BidirectionalSelectiveScan: E (channels) is 4611686018427387904, wanted at most 1099511627776");
}

TEST(Check, NamesTheFlagThatIsWrong) {
  auto problem = conv();
  problem.reverse = {};
  EXPECT_EQ(check(problem).message(),
            "BidirectionalConv1d: attribute reverse is empty, wanted one flag (0 or 1) per direction or group");
  problem.reverse = {0, 2};
  EXPECT_EQ(check(problem).message(), "BidirectionalConv1d: attribute reverse[1] is 2, wanted 0 or 1");
}

TEST(Check, TakesGivenStepSizes) {
  auto problem = scan();
  problem.rank = 0;
  EXPECT_TRUE(check(problem).ok());
}

TEST(Check, NamesTheAttributeThatIsNoFlag) {
  auto problem = scan();
  problem.name = kSelectiveScanName;
  problem.delta_softplus = 2;
  EXPECT_EQ(check(problem).message(), "SelectiveScan: attribute delta_softplus is 2, wanted 0 or 1");
  auto convolution = conv();
  convolution.silu = -1;
  EXPECT_EQ(check_attributes(convolution).message(), "BidirectionalConv1d: attribute silu is -1, wanted 0 or 1");
}

TEST(Check, RefusesARowThatDoesNotHoldTheChannels) {
  auto problem = conv();
  EXPECT_EQ(problem.row, 6);
  problem.row = 2;
  EXPECT_EQ(check(problem).message(), "BidirectionalConv1d: X (channels of x) is 2, wanted at least 3");
}

}  // namespace
}  // namespace vimdeploy
