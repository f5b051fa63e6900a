#include "scan/cpu/instruction_sets.h"

#include <gtest/gtest.h>

#include "scan/cpu/operators.h"

namespace vimdeploy {
namespace {

TEST(InstructionSets, TheCompilersOwnRunsEverywhere) { EXPECT_TRUE(runs_here(HWY_STATIC_TARGET)); }

TEST(InstructionSets, KernelsThatDoNotRunHereAreLeftOut) {
  constexpr int64_t kNoSuchTarget = 0;
  const auto here = kernels_that_run_here<void()>({{kNoSuchTarget, nullptr}, {HWY_STATIC_TARGET, nullptr}});
  ASSERT_EQ(here.size(), 1u);
  EXPECT_EQ(here[0].target, HWY_STATIC_TARGET);
}

TEST(InstructionSets, BothOperatorsHaveTheSameBestFirst) {
  const auto& conv = conv1d_kernels();
  const auto& scan = selective_scan_kernels();
  ASSERT_FALSE(scan.empty());
  ASSERT_EQ(conv.size(), scan.size());
  for (size_t i = 0; i < scan.size(); ++i) {
    EXPECT_EQ(conv[i].target, scan[i].target);
    EXPECT_TRUE(runs_here(scan[i].target));
  }
  for (size_t i = 1; i < scan.size(); ++i) {
    EXPECT_LT(scan[i - 1].target, scan[i].target) << "Highway's better targets have lower bits";
  }
  EXPECT_EQ(scan.back().target, HWY_STATIC_TARGET);
}

}  // namespace
}  // namespace vimdeploy
