#include "scan/cpu/plan.h"

#include <gtest/gtest.h>

#include "scan/operators.h"

namespace vimdeploy {
namespace {

// Vim-Ti at 224.
SelectiveScanProblem tiny() { return {ElementType::float32, 1, 197, 384, 16, 12, {0, 1}, 0.5f}; }

TEST(Plan, TasksCoverEveryChannelOnce) {
  for (int64_t channels : {1, 15, 16, 17, 384, 1000}) {
    for (int64_t threads : {1, 2, 4, 7, 64}) {
      auto problem = tiny();
      problem.channels = channels;
      problem.batch = 3;
      const auto plan = plan_of(problem, {threads});
      EXPECT_EQ(plan.channel_block % kChannelGrain, 0);
      EXPECT_GE(plan.channel_block * plan.channel_blocks, channels);
      EXPECT_LT(plan.channel_block * (plan.channel_blocks - 1), channels);
      EXPECT_EQ(plan.tasks, 3 * plan.channel_blocks);
      EXPECT_LE(plan.slots, std::min(plan.tasks, threads));
    }
  }
}

TEST(Plan, MoreThreadsMakeSmallerBlocks) {
  EXPECT_EQ(plan_of(tiny(), {1}).channel_block, 384);
  EXPECT_EQ(plan_of(tiny(), {2}).channel_block, 192);
  EXPECT_EQ(plan_of(tiny(), {5}).channel_block, 80);  // the last block has 64
  EXPECT_EQ(plan_of(tiny(), {99}).channel_block, 16);
}

TEST(Plan, ABatchThatFillsTheThreadsNeedsNoBlocksOfChannels) {
  auto problem = tiny();
  problem.batch = 8;
  EXPECT_EQ(plan_of(problem, {4}).channel_block, 384);
  problem.batch = 3;
  EXPECT_EQ(plan_of(problem, {2}).channel_block, 192);  // 3 rounds of half sequences, not 2 rounds of whole ones
}

TEST(Plan, ScratchOfOneSlotDoesNotDependOnTheLengthInFloat32) {
  auto problem = tiny();
  const size_t bytes = plan_of(problem, {1}).scratch_bytes;
  problem.tokens = 6085;
  EXPECT_EQ(plan_of(problem, {1}).scratch_bytes, bytes);
}

TEST(Plan, SmallTypesSumTheirDirectionsInTheSlot) {
  auto problem = tiny();
  problem.type = ElementType::float16;
  const auto plan = plan_of(problem, {1});
  EXPECT_FALSE(plan.sums_in_y);
  EXPECT_EQ(plan.slot_floats - plan.sum, problem.tokens * plan.channel_block);
  problem.reverse = {0};
  EXPECT_EQ(plan_of(problem, {1}).slot_floats, plan.sum);
}

TEST(Plan, LargeTensorsAreWrittenByNonTemporalStores) {
  auto problem = tiny();
  EXPECT_FALSE(plan_of(problem, {2}).streams);
  problem.tokens = 2305;
  EXPECT_TRUE(plan_of(problem, {2}).streams);
  EXPECT_EQ(plan_of(problem, {2}).to_string(),
            "BidirectionalSelectiveScan: 2 tasks of 192 channels in blocks of 64 tokens, in 2 slots of 55808 bytes, "
            "directions summed in y, past the caches");
  problem.reverse = {0};  // no sum is kept for a second direction
  EXPECT_FALSE(plan_of(problem, {2}).streams);

  Conv1dProblem conv{ElementType::float32, 3, 800, 384, 4, {0}};
  EXPECT_EQ(plan_of(conv, {2}).to_string(),
            "BidirectionalConv1d: 6 tasks of 192 channels in blocks of 32 tokens, in 2 slots of 6272 bytes, u past the "
            "caches");
  conv.channels = 390;  // rows do not begin at a cache line
  EXPECT_FALSE(plan_of(conv, {2}).streams);
  conv.channels = 384, conv.type = ElementType::float16;
  EXPECT_FALSE(plan_of(conv, {2}).streams);
}

// VMamba's first stage at 224: four groups of 96 channels.
SelectiveScanProblem groups() {
  auto problem = LowRankScanOperator::problem();
  problem.batch = 1, problem.tokens = 3136, problem.channels = 96, problem.states = 1, problem.rank = 6;
  problem.reverse = {0, 0, 1, 1};
  return problem;
}

TEST(Plan, GroupsThatAreNotSummedAreTasksOfTheirOwn) {
  EXPECT_EQ(plan_of(groups(), {2}).to_string(),
            "LowRankSelectiveScan: 4 tasks of 96 channels in blocks of 64 tokens, in 2 slots of 24320 bytes");
  EXPECT_EQ(plan_of(groups(), {8}).tasks, 8);
  auto problem = groups();
  problem.type = ElementType::float16;  // needs no memory for sums
  EXPECT_EQ(plan_of(problem, {2}).scratch_bytes, plan_of(groups(), {2}).scratch_bytes);
}

TEST(Plan, AnEmptyTensorNeedsNothing) {
  for (auto [batch, tokens] : {std::pair<int64_t, int64_t>{0, 197}, {1, 0}}) {
    auto problem = tiny();
    problem.batch = batch;
    problem.tokens = tokens;
    const auto plan = plan_of(problem, {4});
    EXPECT_EQ(plan.tasks, 0);
    EXPECT_EQ(plan.slots, 0);
    EXPECT_EQ(plan.scratch_bytes, 0u);
  }
}

TEST(Plan, ConvolutionKeepsItsHaloInTheSlot) {
  const Conv1dProblem problem{ElementType::float32, 1, 197, 384, 4, {0, 1}};
  const auto plan = plan_of(problem, {1});
  EXPECT_EQ(plan.halo, 3);
  EXPECT_EQ(plan.slot_floats - plan.x, (plan.token_block + 6) * kChannelGrain);
}

TEST(Plan, PrintsItself) {
  EXPECT_EQ(plan_of(tiny(), {2}).to_string(),
            "BidirectionalSelectiveScan: 2 tasks of 192 channels in blocks of 64 tokens, in 2 slots of 55808 bytes, "
            "directions summed in y");
  EXPECT_EQ(plan_of(Conv1dProblem{ElementType::float32, 1, 197, 384, 4, {0, 1}}, {2}).to_string(),
            "BidirectionalConv1d: 2 tasks of 192 channels in blocks of 32 tokens, in 2 slots of 10112 bytes");
}

}  // namespace
}  // namespace vimdeploy
