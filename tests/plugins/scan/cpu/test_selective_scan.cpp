#include "scan/cpu/operators.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "scan/reference/operators.h"
#include "scan/shapes.h"
#include "testing/compare.h"
#include "testing/expectations.h"
#include "testing/hosts.h"
#include "testing/random_tensors.h"

namespace vimdeploy::testing {
namespace {

void expect_all_kernels_agree(const SelectiveScanCase& c, int64_t threads = 2) {
  SCOPED_TRACE(describe(c.problem));
  const auto plan = plan_of(c.problem, {threads});
  Tensor wanted = c.y;
  selective_scan_reference(c.problem, c.tensors(wanted));
  const auto magnitude = magnitudes(c);
  for (const auto& kernel : selective_scan_kernels()) {
    SCOPED_TRACE(name_of_instruction_set(kernel.target));
    GuardedMemory scratch(plan.scratch_bytes), y(c.y.bytes.size());
    Tensor found = c.y;
    auto tensors = c.tensors(found);
    tensors.y.data = y.data();
    kernel.run(c.problem, plan, tensors, scratch.data(), serial_for());
    std::copy_n(y.data(), y.size(), found.bytes.data());
    EXPECT_TRUE(scratch.is_intact() && y.is_intact()) << "written outside of the scratch or of y";
    EXPECT_TRUE(is_close(found, wanted, magnitude, roundings(c.problem), output_shape(c.problem)));
  }
}

TEST(SelectiveScan, AgreesWithTheReferenceForEverySize) {
  for (ElementType type : kElementTypes) {
    for (int64_t tokens : {1, 2, 31, 32, 33, 197}) {
      expect_all_kernels_agree(SelectiveScanCase({type, 3, tokens, 13, 8, 1, {0, 1}, 0.5f}));
    }
    for (int64_t channels : {1, 13, 16, 65}) {
      for (int64_t states : {1, 2, 7, 8, 16, 17, 64}) {
        for (int64_t rank : {1, 12}) {
          expect_all_kernels_agree(SelectiveScanCase({type, 2, 33, channels, states, rank, {0, 1}, 0.5f}));
        }
      }
    }
  }
}

TEST(SelectiveScan, AgreesWithTheReferenceForAnySize) {
  std::mt19937 random(7);
  const auto up_to = [&](int64_t most) { return std::uniform_int_distribution<int64_t>(1, most)(random); };
  for (uint32_t seed = 0; seed < 40; ++seed) {
    SelectiveScanProblem problem{
        kElementTypes[seed % 3], up_to(3), up_to(100), up_to(140), up_to(40), up_to(24), {}, 1.0f};
    for (int64_t k = up_to(4); k > 0; --k) problem.reverse.push_back(up_to(2) - 1);
    expect_all_kernels_agree(SelectiveScanCase(problem, seed), up_to(8));
  }
}

TEST(SelectiveScan, TakesAnyDirections) {
  const std::vector<std::vector<int64_t>> patterns = {{0}, {1}, {0, 0}, {1, 0}, {1, 1}, {0, 1, 1}, {1, 0, 1, 0}};
  for (const auto& reverse : patterns) {
    for (ElementType type : kElementTypes) {
      expect_all_kernels_agree(SelectiveScanCase({type, 2, 70, 20, 4, 3, reverse, 0.5f}));
    }
  }
}

TEST(SelectiveScan, AgreesWithTheReferenceForALongSequence) {
  expect_all_kernels_agree(SelectiveScanCase({ElementType::float32, 1, 3000, 16, 16, 12, {0, 1}, 0.5f}));
}

TEST(SelectiveScan, TakesExtremeStepSizes) {
  for (float bias : {-1e30f, -1e4f, -100.0f, -20.0f, 19.9f, 20.1f, 100.0f, 1e4f, 1e30f}) {
    SelectiveScanCase c({ElementType::float32, 1, 40, 20, 5, 3, {0, 1}, 0.5f});
    for (size_t i = 0; i < c.dt_bias.size(); i += 3) c.dt_bias[i] = bias;
    expect_all_kernels_agree(c);
  }
}

TEST(SelectiveScan, TakesDecaysThatDoNotDecay) {
  SelectiveScanCase c({ElementType::float32, 1, 40, 20, 5, 3, {0, 1}, 0.5f});
  for (size_t i = 0; i < c.A.size(); ++i) c.A[i] = i % 3 == 0 ? 0.0f : i % 3 == 1 ? 0.01f : -1e-20f;
  expect_all_kernels_agree(c);
}

TEST(SelectiveScan, IsTheSameWithNonTemporalStores) {
  const SelectiveScanCase c({ElementType::float32, 2, 70, 48, 16, 12, {0, 1, 0}, 0.5f});
  auto plan = plan_of(c.problem, {2});
  for (const auto& kernel : selective_scan_kernels()) {
    GuardedMemory scratch(plan.scratch_bytes), unaligned(c.y.bytes.size());
    Tensor cached = c.y, streamed = c.y;
    plan.streams = false;
    kernel.run(c.problem, plan, c.tensors(cached), scratch.data(), serial_for());
    plan.streams = true;
    kernel.run(c.problem, plan, c.tensors(streamed), scratch.data(), threaded_for());
    EXPECT_EQ(streamed.bytes, cached.bytes) << name_of_instruction_set(kernel.target);
    auto tensors = c.tensors(streamed);
    tensors.y.data = unaligned.data();
    kernel.run(c.problem, plan, tensors, scratch.data(), serial_for());
    EXPECT_TRUE(unaligned.is_intact() && std::equal(cached.bytes.begin(), cached.bytes.end(), unaligned.data()))
        << name_of_instruction_set(kernel.target) << ", memory that is not aligned to a cache line";
  }
}

TEST(SelectiveScan, PassesNanInfinityAndDenormalsOnAsTheReferenceDoes) {
  for (float special : {std::nanf(""), HUGE_VALF, -HUGE_VALF, 1e-40f, -1e-40f, 1e20f}) {
    const SelectiveScanCase usual({ElementType::float32, 1, 40, 20, 5, 3, {0, 1}, 0.5f});
    for (int input = 0; input < 7; ++input) {
      SCOPED_TRACE("input " + std::to_string(input) + " is " + std::to_string(special));
      SelectiveScanCase c = usual;
      if (input == 0) c.u.set(10 * 20 + 7, special);
      if (input == 1) c.xz.set(10 * 40 + 27, special);
      if (input == 2) c.dt_bc.set(10 * 13 + 1, special);   // of the low rank
      if (input == 3) c.dt_bc.set(10 * 13 + 4, special);   // of B
      if (input == 4) c.dt_bc.set(10 * 13 + 10, special);  // of C
      if (input == 5) c.A[7 * 5 + 2] = special;
      if (input == 6) c.D[7] = special;
      expect_all_kernels_agree(c);
    }
  }
}

TEST(SelectiveScan, DoesNotDependOnTheThreads) {
  for (ElementType type : kElementTypes) {
    const SelectiveScanCase c({type, 2, 65, 200, 16, 12, {0, 1}, 0.5f});
    for (const auto& kernel : selective_scan_kernels()) {
      decltype(Tensor::bytes) first;
      for (int64_t threads : {1, 2, 5, 64}) {
        for (ParallelFor host : {serial_for(), threaded_for()}) {
          const auto plan = plan_of(c.problem, {threads});
          GuardedMemory scratch(plan.scratch_bytes);
          Tensor found = c.y;
          kernel.run(c.problem, plan, c.tensors(found), scratch.data(), host);
          if (first.empty()) first = found.bytes;
          EXPECT_EQ(found.bytes, first) << name_of_instruction_set(kernel.target) << " " << threads << " threads";
        }
      }
    }
  }
}

TEST(SelectiveScan, AnEmptyTensorIsNoWork) {
  for (auto [batch, tokens] : {std::pair<int64_t, int64_t>{0, 5}, {2, 0}}) {
    expect_all_kernels_agree(SelectiveScanCase({ElementType::float16, batch, tokens, 20, 5, 3, {0, 1}, 0.5f}));
  }
}

void expect_groups_agree(const SelectiveScanProblem& problem, uint32_t seed = 1, int64_t threads = 2) {
  expect_all_kernels_agree(SelectiveScanCase(problem, seed), threads);
}

TEST(GroupScan, AgreesWithTheReferenceForEverySize) {
  for (ElementType type : kElementTypes) {
    for (int64_t rank : {0, 1, 6, 17}) {
      for (int64_t states : {1, 3, 8, 16, 17, 64}) {
        for (int64_t channels : {1, 13, 48}) {
          expect_groups_agree(problem_of_groups(type, 2, 70, channels, states, rank, {0, 1, 0}));
        }
      }
      for (int64_t tokens : {1, 2, 63, 64, 65, 197}) {
        expect_groups_agree(problem_of_groups(type, 1, tokens, 20, 3, rank, {1, 0}));
      }
    }
  }
}

TEST(GroupScan, AgreesWithTheReferenceForAnySize) {
  std::mt19937 random(8);
  const auto up_to = [&](int64_t most) { return std::uniform_int_distribution<int64_t>(1, most)(random); };
  for (uint32_t seed = 0; seed < 60; ++seed) {
    std::vector<int64_t> reverse;
    for (int64_t g = up_to(5); g > 0; --g) reverse.push_back(up_to(2) - 1);
    expect_groups_agree(problem_of_groups(kElementTypes[seed % 3], up_to(3), up_to(150), up_to(140), up_to(40),
                                          up_to(24) - 1, std::move(reverse)),
                        seed, up_to(8));
  }
}

// Positive step sizes, as callers have them that apply a softplus of their own.
TEST(GroupScan, TakesStepSizesWithoutSoftplus) {
  for (ElementType type : kElementTypes) {
    for (int64_t rank : {0, 5}) {
      for (int64_t states : {1, 9}) {
        expect_groups_agree(problem_of_groups(type, 2, 70, 20, states, rank, {0, 1}, 0));
      }
    }
  }
}

TEST(GroupScan, TakesExtremeStepSizes) {
  for (int64_t softplus : {0, 1}) {
    for (float delta : {-1e30f, -100.0f, -20.0f, 19.9f, 20.1f, 1e4f, 1e30f, HUGE_VALF, -HUGE_VALF, std::nanf("")}) {
      SelectiveScanCase c(problem_of_groups(ElementType::float32, 1, 9, 20, 1, 0, {0, 1}));
      c.problem.delta_softplus = softplus;
      for (int64_t i = 0; i < c.delta.size(); i += 7) c.delta.set(i, delta);
      expect_all_kernels_agree(c);
    }
  }
}

TEST(GroupScan, GivesTheStatesAfterTheLastToken) {
  for (ElementType type : kElementTypes) {
    for (int64_t channels : {5, 40}) {
      SelectiveScanCase c(problem_of_groups(type, 2, 70, channels, 3, 4, {0, 1, 1}));
      const int64_t states = 2 * 3 * channels * 3;
      std::vector<float> magnitude;
      Tensor wanted(ElementType::float32, states);
      auto tensors = c.tensors(c.y);
      tensors.last_state = static_cast<float*>(wanted.data());
      selective_scan_reference(c.problem, tensors);
      for (int64_t i = 0; i < states; ++i) magnitude.push_back(1.0f + std::fabs(wanted.get(i)));
      for (const auto& kernel : selective_scan_kernels()) {
        const auto plan = plan_of(c.problem, {3});
        GuardedMemory scratch(plan.scratch_bytes), last_state(wanted.bytes.size());
        Tensor found(ElementType::float32, states);
        tensors.last_state = reinterpret_cast<float*>(last_state.data());
        kernel.run(c.problem, plan, tensors, scratch.data(), threaded_for());
        std::copy_n(last_state.data(), last_state.size(), found.bytes.data());
        EXPECT_TRUE(last_state.is_intact());
        EXPECT_TRUE(is_close(found, wanted, magnitude, roundings(c.problem), {2, 3, channels, 3}))
            << name_of_instruction_set(kernel.target);
      }
    }
  }
}

// The gate is silu(64) / 64 = 1.
TEST(GroupScan, IsTheBidirectionalScanWithoutItsGate) {
  SelectiveScanCase gated({ElementType::float32, 2, 40, 20, 5, 3, {1}, 1.0f / 64});
  for (int64_t i = 0; i < gated.xz.size(); ++i) gated.xz.set(i, 64.0f);
  const auto gated_tensors = gated.tensors(gated.y);
  SelectiveScanProblem problem = problem_of_groups(ElementType::float32, 2, 40, 20, 5, 3, {1});
  SelectiveScanTensors tensors = gated_tensors;
  Tensor plain = gated.y;
  tensors.y.data = plain.data();
  for (const auto& kernel : selective_scan_kernels()) {
    const auto plan = plan_of(problem, {2}), gated_plan = plan_of(gated.problem, {2});
    GuardedMemory scratch(plan.scratch_bytes), gated_scratch(gated_plan.scratch_bytes);
    kernel.run(problem, plan, tensors, scratch.data(), serial_for());
    kernel.run(gated.problem, gated_plan, gated_tensors, gated_scratch.data(), serial_for());
    EXPECT_EQ(plain.bytes, gated.y.bytes) << name_of_instruction_set(kernel.target);
  }
}

TEST(GroupScan, DoesNotDependOnTheThreads) {
  const SelectiveScanCase c(problem_of_groups(ElementType::float16, 2, 65, 70, 1, 6, {0, 1, 0, 1}));
  for (const auto& kernel : selective_scan_kernels()) {
    decltype(Tensor::bytes) first;
    for (int64_t threads : {1, 2, 5, 64}) {
      const auto plan = plan_of(c.problem, {threads});
      GuardedMemory scratch(plan.scratch_bytes);
      Tensor found = c.y;
      kernel.run(c.problem, plan, c.tensors(found), scratch.data(), threaded_for());
      if (first.empty()) first = found.bytes;
      EXPECT_EQ(found.bytes, first) << name_of_instruction_set(kernel.target) << " " << threads << " threads";
    }
  }
}

TEST(GroupScan, AnEmptyTensorIsNoWork) {
  for (auto [batch, tokens] : {std::pair<int64_t, int64_t>{0, 5}, {2, 0}}) {
    for (int64_t rank : {0, 3})
      expect_groups_agree(problem_of_groups(ElementType::float16, batch, tokens, 20, 5, rank, {0, 1}));
  }
}

}  // namespace
}  // namespace vimdeploy::testing
