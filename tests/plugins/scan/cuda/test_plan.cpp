#include "scan/cuda/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>

#include "scan/cuda/layout.h"
#include "scan/cuda/time_model.h"
#include "testing/random_tensors.h"

namespace vimdeploy {
namespace {

constexpr CudaFacts kH100{132, 228 << 10, 227 << 10, 90, 16, 1980000, 3350000, 50 << 20};
constexpr CudaFacts kOrin{16, 164 << 10, 163 << 10, 87, 1, 1300000, 204800, 4 << 20};
constexpr CudaFacts kTuring{40, 64 << 10, 64 << 10, 75, 1, 1590000, 320000, 4 << 20};

const std::optional<Schedule> kWanted[] = {std::nullopt, Schedule::sequences, Schedule::cluster, Schedule::two_launches,
                                           Schedule::three_launches};

// Vim-Ti at 224.
SelectiveScanProblem tiny(int64_t batch, int64_t tokens = 197) {
  return {ElementType::float16, batch, tokens, 384, 16, 12, {0, 1}, 0.5f};
}

SelectiveScanProblem of_groups(int64_t batch, int64_t tokens, int64_t channels, int64_t states, int64_t rank,
                               size_t groups) {
  return testing::problem_of_groups(ElementType::float16, batch, tokens, channels, states, rank,
                                    std::vector<int64_t>(groups));
}

TEST(CudaPlan, ManySequencesAreScannedWhole) {
  const auto plan = cuda_plan_of(tiny(128), kH100);
  EXPECT_EQ(plan.chunks, 1);
  EXPECT_EQ(plan.chunk_tokens, 200);
  EXPECT_TRUE(plan.sums_in_shared);
  EXPECT_EQ(plan.workspace_bytes, 0u);
  EXPECT_EQ(plan.channels_per_thread, 2);
}

TEST(CudaPlan, FewOrLongSequencesAreCutIntoChunks) {
  for (const CudaFacts& device : {kH100, kOrin, kTuring}) {
    EXPECT_GT(cuda_plan_of(tiny(1), device).chunks, 1);
    EXPECT_GT(cuda_plan_of(tiny(1, 6085), device).chunks, 1);
  }
}

TEST(CudaPlan, AScheduleCanBeAskedFor) {
  for (const auto& problem : {tiny(1), tiny(128), tiny(1, 6085), of_groups(2, 3136, 96, 1, 6, 4)}) {
    for (Schedule schedule : kSchedules) {
      const auto plan = cuda_plan_of(problem, kH100, schedule);
      EXPECT_EQ(plan.schedule, schedule);
      EXPECT_EQ(plan.chunks == 1, schedule == Schedule::sequences);
      EXPECT_EQ(cuda_plan_of(tiny(1, 8), kH100, schedule).chunks, 1);  // too short
    }
  }
}

TEST(CudaPlan, ChunksOfAFewSequencesAreAClusterWhereTheDeviceHasClusters) {
  EXPECT_EQ(cuda_plan_of(tiny(1), kH100).schedule, Schedule::cluster);
  for (Schedule schedule : kSchedules) {
    for (const CudaFacts& device : {kOrin, kTuring, CudaFacts{}}) {
      EXPECT_NE(cuda_plan_of(tiny(1), device, schedule).schedule, Schedule::cluster);
    }
  }
  EXPECT_NE(cuda_plan_of(tiny(1), CudaFacts{}).schedule, Schedule::cluster);
}

TEST(CudaPlan, AClusterIsNoLargerThanTheDeviceCanLaunch) {
  for (int64_t largest : {2, 7, 8, 16}) {
    CudaFacts device = kH100;
    device.largest_cluster = largest;
    for (int64_t tokens : {16, 197, 577, 6085}) {
      const auto plan = cuda_plan_of(tiny(1, tokens), device, Schedule::cluster);
      EXPECT_EQ(plan.schedule, Schedule::cluster);
      EXPECT_LE(plan.chunks, largest);
    }
  }
}

// The ends of chunks stay in shared memory.
TEST(CudaPlan, AClusterNeedsNoWorkspaceForItsChunks) {
  const auto cluster = cuda_plan_with(tiny(1), Schedule::cluster, 8, true, 1);
  const auto launches = cuda_plan_with(tiny(1), Schedule::two_launches, 8, true, 1);
  EXPECT_EQ(cluster.workspace_bytes, 0u);
  EXPECT_GT(launches.workspace_bytes, 0u);
  EXPECT_EQ(cluster.shared_bytes, launches.shared_bytes + 2 * 17 * 64 * sizeof(float));
}

// A launch of its own pays if there are many ends to combine.
TEST(CudaPlan, FewChunksAreCombinedByTheBlocks) {
  const auto clocks = [](int64_t chunks, Schedule schedule) {
    const auto problem = tiny(1, 6085);
    return cuda::TimeModel(problem, kOrin).clocks(cuda_plan_with(problem, schedule, chunks, false, 1));
  };
  EXPECT_LT(clocks(4, Schedule::two_launches), clocks(4, Schedule::three_launches));
  EXPECT_GT(clocks(64, Schedule::two_launches), clocks(64, Schedule::three_launches));
}

TEST(CudaPlan, ASumThatDoesNotFitSharedMemoryIsInTheWorkspace) {
  const auto plan = cuda_plan_of(tiny(128, 2000), kH100, Schedule::sequences);
  EXPECT_FALSE(plan.sums_in_shared);
  EXPECT_GE(plan.workspace_bytes, size_t{128 * 2000 * 384 * 4});
}

TEST(CudaPlan, OneSubscanNeedsNoSum) {
  auto problem = tiny(128);
  problem.reverse = {0};
  const auto plan = cuda_plan_of(problem, kH100);
  EXPECT_FALSE(plan.sums_in_shared);
  EXPECT_EQ(plan.workspace_bytes, 0u);
}

// A group's output is its own, so that it needs no sum unless it has more states than a subscan takes.
TEST(CudaPlan, GroupsNeedNoSum) {
  for (int64_t states : {1, 8, 16}) {
    const auto plan = cuda_plan_of(of_groups(16, 3136, 96, states, 6, 4), kH100, Schedule::sequences);
    EXPECT_FALSE(plan.sums_in_shared);
    EXPECT_EQ(plan.workspace_bytes, 0u);
  }
  EXPECT_TRUE(cuda_plan_of(of_groups(16, 196, 96, 17, 6, 4), kH100, Schedule::sequences).sums_in_shared);
}

TEST(CudaPlan, ASubscanHasNoMoreStatesThanItNeeds) {
  for (auto [states, state_group] : {std::pair<int64_t, int64_t>{1, 1}, {2, 8}, {8, 8}, {9, 16}, {16, 16}, {17, 16}}) {
    for (int64_t rank : {0, 6}) {
      EXPECT_EQ(cuda_plan_of(of_groups(1, 196, 96, states, rank, 4), kH100).state_group, state_group) << states;
    }
    auto problem = tiny(1);
    problem.states = states;
    EXPECT_EQ(cuda_plan_of(problem, kH100).state_group, state_group) << states;
  }
}

TEST(CudaPlan, GroupsFillTheDeviceLikeSequences) {
  EXPECT_GT(cuda_plan_of(of_groups(1, 3136, 96, 1, 6, 1), kH100).chunks,
            cuda_plan_of(of_groups(1, 3136, 96, 1, 6, 8), kH100).chunks);
  EXPECT_EQ(cuda_plan_of(of_groups(128, 3136, 96, 1, 6, 8), kH100).chunks, 1);
}

// Invariants of every plan, for any problem and device.
TEST(CudaPlan, CoversTheTokensWithinTheDeviceAndTheBound) {
  std::mt19937 random(5);
  const auto up_to = [&](int64_t most) { return std::uniform_int_distribution<int64_t>(1, most)(random); };
  for (int i = 0; i < 2000; ++i) {
    SelectiveScanProblem largest{
        ElementType::float32, up_to(64), up_to(4000), up_to(1024), up_to(40), up_to(48), {}, 1.0f};
    for (int64_t k = up_to(4); k > 0; --k) largest.reverse.push_back(up_to(2) - 1);
    SelectiveScanProblem problem{
        ElementType::float32,  up_to(largest.batch), up_to(largest.tokens), up_to(largest.channels),
        up_to(largest.states), up_to(largest.rank),  largest.reverse,       1.0f};
    problem.reverse.resize(static_cast<size_t>(up_to(largest.directions())));
    for (SelectiveScanProblem* p : {&largest, &problem}) {
      p->is_gated = i % 3 == 0;
      if (i % 3 == 1) p->rank = 0;
    }
    for (const CudaFacts& device : {kH100, kOrin, kTuring, CudaFacts{}}) {
      for (std::optional<Schedule> wanted : kWanted) {
        const auto plan = cuda_plan_of(problem, device, wanted);
        SCOPED_TRACE(plan.to_string());
        EXPECT_TRUE(check(problem, device).ok());
        EXPECT_EQ(plan.chunk_tokens % cuda::kTokenTile, 0);
        EXPECT_GE(plan.chunks * plan.chunk_tokens, problem.tokens);
        EXPECT_LT((plan.chunks - 1) * plan.chunk_tokens, problem.tokens);
        EXPECT_LE(plan.shared_bytes, static_cast<size_t>(device.shared_bytes_per_block));
        EXPECT_LE(plan.workspace_bytes, workspace_bound(largest, device));
        EXPECT_EQ(plan.ends % 256, 0u);
        EXPECT_EQ(plan.sums % 256, 0u);
        EXPECT_GE(plan.state_group, std::min<int64_t>(problem.states, 16));
      }
    }
  }
}

// Multiprocessors, shared memory of a multiprocessor and of a block, and compute capability, in CUDA's tables; clusters
// of 8 blocks are what every device has that has any.
const std::map<std::string, CudaFacts> kGpus = {
    {"A100", {108, 164 << 10, 163 << 10, 80}},
    {"H100", kH100},
    {"B200", {148, 228 << 10, 227 << 10, 100, 8}},
    {"Thor", {20, 228 << 10, 227 << 10, 110, 8}},
    {"Orin", kOrin},
    {"Orin Nano", {8, 164 << 10, 163 << 10, 87}},
    {"A10", {72, 100 << 10, 99 << 10, 86}},
    {"L4", {58, 100 << 10, 99 << 10, 89}},
    {"RTX 4090", {128, 100 << 10, 99 << 10, 89}},
    {"RTX 5090", {170, 100 << 10, 99 << 10, 120, 8}},
    {"RTX 3050", {20, 100 << 10, 99 << 10, 86}},
};

// As an engine for ampere_plus does: planned on one GPU, with the workspace of the build on another.
TEST(CudaPlan, OfAnEngineFitsEveryGpuThatItMayRunOn) {
  int fewer_shared = 0;
  for (const auto& [built_on, built] : kGpus) {
    for (const auto& [runs_on, here] : kGpus) {
      const CudaFacts device = facts_to_plan_with(built, here);
      for (int64_t tokens : {197, 577, 6085}) {
        const auto largest = tiny(32, tokens);
        for (int64_t batch : {1, 2, 4, 8, 12, 16, 22, 32}) {
          for (std::optional<Schedule> wanted : kWanted) {
            const auto problem = tiny(batch, tokens);
            const auto plan = cuda_plan_of(problem, device, wanted);
            SCOPED_TRACE(built_on + " to " + runs_on + ": " + plan.to_string());
            ASSERT_TRUE(check(problem, here).ok());
            ASSERT_LE(plan.shared_bytes, static_cast<size_t>(here.shared_bytes_per_block));
            ASSERT_LE(plan.workspace_bytes, workspace_bound(largest, built));
            ASSERT_TRUE(plan.schedule != Schedule::cluster || plan.chunks <= here.largest_cluster);
            const auto unlimited = cuda_plan_of(problem, built, wanted);
            fewer_shared += unlimited.shared_bytes > static_cast<size_t>(here.shared_bytes_per_block);
          }
        }
      }
    }
  }
  EXPECT_GT(fewer_shared, 0);  // plans of the build's GPU alone would not fit everywhere
}

TEST(CudaPlan, OfAnEngineOnItsOwnGpuIsThatGpus) {
  for (const auto& [name, gpu] : kGpus) {
    EXPECT_EQ(cuda_plan_of(tiny(12, 577), facts_to_plan_with(gpu, gpu)).to_string(),
              cuda_plan_of(tiny(12, 577), gpu).to_string())
        << name;
  }
}

// Shared memory is read as float4.
TEST(CudaPlan, SharedMemoryIsAligned) {
  for (int64_t bytes_of_element : {2, 4}) {
    for (int64_t rank : {0, 1, 2, 3, 12, 13, 16, 17, 48, 49}) {
      EXPECT_EQ(cuda::tile_floats(bytes_of_element, rank) % 4, 0);
      EXPECT_EQ(cuda::weight_floats(bytes_of_element, rank) % 4, 0);
    }
  }
  EXPECT_EQ(cuda::kStateRow % 4, 0);
}

// What tensor cores multiply needs no shared memory up to one product; then its weights are in whole products.
TEST(CudaPlan, TheLowRankOfSixteenBitsTakesLittleSharedMemory) {
  EXPECT_EQ(cuda::shared_layout(1, 2, 16, 0, 0).floats, cuda::shared_layout(1, 2, 0, 0, 0).floats);
  EXPECT_EQ(cuda::shared_layout(1, 2, 17, 0, 0).floats, cuda::shared_layout(1, 2, 32, 0, 0).floats);
  EXPECT_GT(cuda::shared_layout(1, 4, 16, 0, 0).floats, cuda::shared_layout(1, 2, 16, 0, 0).floats);
}

TEST(CudaPlan, RefusesWhatTheDeviceCannotTake) {
  auto problem = tiny(1);
  problem.rank = 1000;
  const Status status = check(problem, kTuring);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(
      status.message(),
      "BidirectionalSelectiveScan: R (rank) is 1000, the CUDA kernels take at most 224 here; run this model on the "
      "CPU");
  const Status of_a_group = check(of_groups(1, 196, 96, 1, 1000, 4), kTuring);
  ASSERT_FALSE(of_a_group.ok());
  EXPECT_EQ(
      of_a_group.message(),
      "LowRankSelectiveScan: R (rank) is 1000, the CUDA kernels take at most 480 here; run this model on the CPU");
  EXPECT_TRUE(check(of_groups(1, 196, 96, 1, 0, 4), kTuring).ok());
  problem = tiny(1);
  problem.reverse.assign(65, 0);
  EXPECT_FALSE(check(problem, kH100).ok());
  EXPECT_FALSE(check(Conv1dProblem{ElementType::float32, 1, int64_t{1} << 40, 4, 4, {0}}, kH100).ok());
  EXPECT_FALSE(check(Conv1dProblem{ElementType::float32, 1 << 20, 1 << 10, 384, 4, {0}}, kH100).ok());
  const auto wide = testing::causal_problem(ElementType::float32, 1, 197, 4, 4, {0}, int64_t{1} << 31);
  EXPECT_EQ(
      check(wide, kH100).message(),
      "CausalConv1d: X (channels of x) is 2147483648, the CUDA kernels take at most 268435454 here; run this model "
      "on the CPU");
}

TEST(CudaPlan, AnEmptyTensorNeedsNothing) {
  EXPECT_EQ(cuda_plan_of(tiny(0), kH100).to_string(), "BidirectionalSelectiveScan on CUDA: nothing to do");
  EXPECT_EQ(cuda_plan_of(tiny(1, 0), kH100).workspace_bytes, 0u);
}

TEST(CudaPlan, PrintsItself) {
  EXPECT_EQ(cuda_plan_with(of_groups(1, 3136, 96, 1, 0, 4), Schedule::three_launches, 98, false, 1).to_string(),
            "SelectiveScan on CUDA: 98 chunks of 32 tokens in three launches, 64 channels, 1 state and 2560 bytes of "
            "shared memory a block, 401408 bytes of workspace");
  EXPECT_EQ(
      cuda_plan_with(tiny(1), Schedule::cluster, 8, true, 1).to_string(),
      "BidirectionalSelectiveScan on CUDA: 7 chunks of 32 tokens in one launch of clusters, 64 channels, 16 states "
      "and 22016 bytes of shared memory a block, 0 bytes of workspace, sums in shared memory");
  EXPECT_EQ(cuda_plan_with(tiny(128), Schedule::sequences, 1, false, 2).to_string(),
            "BidirectionalSelectiveScan on CUDA: whole sequences of 200 tokens, 64 channels, two for each thread, 16 "
            "states and 5120 bytes of shared memory a block, 39321600 bytes of workspace");
}

}  // namespace
}  // namespace vimdeploy
