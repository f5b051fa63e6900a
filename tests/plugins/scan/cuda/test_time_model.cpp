#include "scan/cuda/time_model.h"

#include <gtest/gtest.h>

#include "scan/cuda/layout.h"
#include "testing/random_tensors.h"

namespace vimdeploy {
namespace {

using cuda::TimeModel;

constexpr CudaFacts kH100{132, 228 << 10, 227 << 10, 90, 16, 1980000, 3350000, 50 << 20};
constexpr CudaFacts kL4{58, 100 << 10, 99 << 10, 89, 1, 2040000, 300000, 48 << 20};

// Vim-Ti at 224.
SelectiveScanProblem tiny(int64_t batch, int64_t tokens = 197) {
  return {ElementType::float16, batch, tokens, 384, 16, 12, {0, 1}, 0.5f};
}

double us_of(const SelectiveScanProblem& problem, const CudaFacts& device) {
  return TimeModel(problem, device).us(cuda_plan_of(problem, device));
}

TEST(TimeModel, KnowsEveryKernelThatIsCompiled) {
  for (cuda::Form form : {cuda::Form::gated, cuda::Form::low_rank, cuda::Form::given}) {
    for (ElementType type : kElementTypes) {
      for (int64_t states : {1, 8, 16}) {
        auto problem =
            testing::problem_of_groups(type, 8, 197, 384, states, form == cuda::Form::given ? 0 : 12, {0, 1});
        problem.is_gated = form == cuda::Form::gated;
        ASSERT_EQ(cuda::form_of(problem), form);
        for (Schedule schedule : kSchedules) {
          for (int channels = 1; channels <= cuda::most_channels_per_thread(static_cast<int>(states)); ++channels) {
            const auto plan = cuda_plan_with(problem, schedule, 8, true, channels);
            const double clocks = TimeModel(problem, kH100).clocks(plan);
            // A warp issues at least a multiply-add for each state, token and direction.
            EXPECT_GT(clocks, static_cast<double>(plan.chunk_tokens * states)) << plan.to_string();
            EXPECT_LT(clocks, 1e6) << plan.to_string();
          }
        }
      }
    }
  }
}

TEST(TimeModel, MoreWorkTakesLonger) {
  double before = 0;
  for (int64_t batch : {1, 8, 32, 128}) {
    const double now = us_of(tiny(batch), kH100);
    EXPECT_GT(now, before);
    before = now;
  }
  EXPECT_GT(us_of(tiny(1, 6085), kH100), us_of(tiny(1), kH100));
  EXPECT_EQ(us_of(tiny(0), kH100), 0);
}

TEST(TimeModel, EachUnitCanBeTheOneThatIsWaitedFor) {
  const auto problem = tiny(128);
  const double us = us_of(problem, kH100);
  CudaFacts slower = kH100;
  slower.clock_khz /= 2;
  EXPECT_NEAR(us_of(problem, slower), 2 * us, 0.05 * us);
  slower = kH100;
  slower.memory_mb_per_s /= 50;
  EXPECT_GT(us_of(problem, slower), 2 * us);
  slower = kH100;
  slower.compute_capability = 80;  // half as many lanes for float32
  EXPECT_GT(us_of(problem, slower), 1.1 * us);
}

// What is in the cache does not come from memory.
TEST(TimeModel, FewBytesDoNotWaitForMemory) {
  CudaFacts slow = kL4;
  slow.memory_mb_per_s = 1000;
  EXPECT_EQ(us_of(tiny(1), slow), us_of(tiny(1), kL4));
  EXPECT_GT(us_of(tiny(128), slow), us_of(tiny(128), kL4));
}

// The planner's choices that the kernels were made for.
TEST(TimeModel, ALoneSequenceIsFasterInOneLaunch) {
  EXPECT_EQ(cuda_plan_of(tiny(1), kH100).schedule, Schedule::cluster);
  const auto us = [](Schedule schedule) {
    return TimeModel(tiny(1), kH100).us(cuda_plan_of(tiny(1), kH100, schedule));
  };
  EXPECT_LT(us(Schedule::cluster), us(Schedule::three_launches));
  EXPECT_LT(us(Schedule::three_launches), us(Schedule::sequences));
}

TEST(TimeModel, ManySequencesAreScannedByTwoChannelsAThread) {
  EXPECT_EQ(cuda_plan_of(tiny(128), kH100).channels_per_thread, 2);
}

}  // namespace
}  // namespace vimdeploy
