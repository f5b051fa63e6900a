// The source of the scan's CUDA kernels, compiled for a CPU, against the reference.

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "scan/cuda/plan.h"
#include "scan/reference/operators.h"
#include "scan/shapes.h"
#include "testing/compare.h"
#include "testing/cuda_blocks.h"
#include "testing/expectations.h"
#include "testing/hosts.h"
#include "testing/random_tensors.h"

namespace vimdeploy::testing {
namespace {

// All plans with that many chunks that differ.
std::vector<SelectiveScanCudaPlan> plans_with(const SelectiveScanProblem& problem, int64_t chunks) {
  std::vector<SelectiveScanCudaPlan> plans;
  for (Schedule schedule : kSchedules) {
    for (int64_t channels_per_thread : {1, 2}) {
      for (bool sums_in_shared : {true, false}) {
        const auto plan = cuda_plan_with(problem, schedule, chunks, sums_in_shared, channels_per_thread);
        const bool is_wanted = plan.schedule == schedule && plan.channels_per_thread == channels_per_thread &&
                               plan.sums_in_shared == sums_in_shared;
        if (is_wanted && (plan.chunks > 1) == (chunks > 1)) plans.push_back(plan);
      }
    }
  }
  return plans;
}

// Computes y by the plan, and expects that nothing is written outside of the workspace and of y.
Tensor output_of(const SelectiveScanCase& c, const SelectiveScanCudaPlan& plan, ThreadOrder order) {
  GuardedMemory workspace(plan.workspace_bytes, GuardedMemory::kAligned);
  GuardedMemory y(c.y.bytes.size(), GuardedMemory::kAligned);
  Tensor found = c.y;
  auto tensors = c.tensors(found);
  tensors.y.data = y.data();
  run_selective_scan_blocks(c.problem, plan, tensors, workspace.data(), order);
  std::copy_n(y.data(), y.size(), found.bytes.data());
  EXPECT_TRUE(workspace.is_intact() && y.is_intact()) << "written outside of the workspace or of y";
  return found;
}

// Expects every plan with these numbers of chunks to agree with the reference, with one channel a thread and with two.
void expect_agreement_within(const SelectiveScanCase& c, const std::vector<float>& magnitude,
                             const std::vector<int64_t>& chunks, ThreadOrder order = ThreadOrder::forward) {
  SCOPED_TRACE(describe(c.problem));
  Tensor wanted = c.y;
  selective_scan_reference(c.problem, c.tensors(wanted));
  for (int64_t count : chunks) {
    for (const auto& plan : plans_with(c.problem, count)) {
      SCOPED_TRACE(plan.to_string());
      EXPECT_TRUE(
          is_close(output_of(c, plan, order), wanted, magnitude, roundings(c.problem), output_shape(c.problem)));
    }
  }
}

void expect_agreement(const SelectiveScanCase& c, const std::vector<int64_t>& chunks = {1, 3},
                      ThreadOrder order = ThreadOrder::forward) {
  expect_agreement_within(c, magnitudes(c), chunks, order);
}

TEST(CudaSelectiveScan, AgreesWithTheReferenceForEverySize) {
  for (ElementType type : kElementTypes) {
    for (int64_t tokens : {1, 2, 7, 8, 9, 15, 16, 17, 33, 197}) {
      expect_agreement(SelectiveScanCase({type, 2, tokens, 13, 16, 3, {0, 1}, 0.5f}), {1, 2, 3, 100});
    }
    for (int64_t channels : {1, 13, 32, 64, 65, 130}) {
      expect_agreement(SelectiveScanCase({type, 2, 21, channels, 16, 5, {0, 1}, 0.5f}));
    }
    for (int64_t states : {1, 2, 7, 15, 16, 17, 31, 32, 40}) {
      expect_agreement(SelectiveScanCase({type, 2, 21, 5, states, 5, {0, 1}, 0.5f}));
    }
    for (int64_t rank : {1, 2, 8, 12, 24, 47, 48, 49, 70}) {
      expect_agreement(SelectiveScanCase({type, 2, 21, 5, 16, rank, {0, 1}, 0.5f}));
    }
  }
}

TEST(CudaSelectiveScan, AgreesWithTheReferenceForGroupsOfEverySize) {
  for (ElementType type : kElementTypes) {
    for (int64_t rank : {0, 3}) {
      for (int64_t states : {1, 8, 16}) {
        for (int64_t tokens : {1, 7, 8, 9, 33}) {
          expect_agreement(SelectiveScanCase(problem_of_groups(type, 2, tokens, 13, states, rank, {0, 1, 0})), {1, 2});
        }
      }
      for (int64_t channels : {1, 64, 65, 130}) {
        expect_agreement(SelectiveScanCase(problem_of_groups(type, 2, 21, channels, 8, rank, {0, 1, 1})));
      }
      for (int64_t states : {2, 4, 7, 9, 15, 17, 40}) {
        expect_agreement(SelectiveScanCase(problem_of_groups(type, 2, 21, 5, states, rank, {1, 0})));
      }
    }
    for (int64_t rank : {1, 2, 16, 17, 48, 49}) {
      expect_agreement(SelectiveScanCase(problem_of_groups(type, 1, 21, 5, 1, rank, {0, 1})));
    }
  }
}

TEST(CudaSelectiveScan, TakesStepSizesWithoutSoftplus) {
  for (int64_t rank : {0, 3}) {
    for (int64_t states : {1, 8, 16, 17}) {
      expect_agreement(SelectiveScanCase(problem_of_groups(ElementType::float32, 2, 37, 70, states, rank, {0, 1}, 0)));
    }
    // Negative ones, with states that keep their size: magnitudes() adds the terms without their signs.
    SelectiveScanCase c(problem_of_groups(ElementType::float32, 2, 37, 20, 1, rank, {0, 1}, 0));
    std::fill(c.A.begin(), c.A.end(), 0.0f);
    SelectiveScanCase positive = c;
    for (int64_t i = 0; i < c.delta.size(); i += 2) c.delta.set(i, -c.delta.get(i));
    std::fill(c.dt_bias.begin(), c.dt_bias.end(), 0.0f);
    expect_agreement_within(c, magnitudes(positive), {1, 3});
  }
}

TEST(CudaSelectiveScan, AStepSizeBelowZeroMakesTheStateGrow) {
  SelectiveScanCase c(problem_of_groups(ElementType::float32, 1, 3, 1, 1, 0, {0}, 0));
  c.A = {-1.0f}, c.D = {0.0f}, c.dt_bias = {0.25f};
  for (int64_t l = 0; l < 3; ++l) {
    c.delta.set(l, -1.25f);  // with the bias -1
    c.u.set(l, l == 0 ? 1.0f : 0.0f), c.B.set(l, 1.0f), c.C.set(l, 1.0f);
  }
  const Tensor y = output_of(c, cuda_plan_with(c.problem, Schedule::sequences, 1, false, 1), ThreadOrder::forward);
  for (int64_t l = 0; l < 3; ++l) EXPECT_NEAR(y.get(l), -std::exp(static_cast<float>(l)), 1e-5f);
}

TEST(CudaSelectiveScan, AgreesWithTheReferenceForModelsOfOthers) {
  const auto half = ElementType::float16;
  expect_agreement(SelectiveScanCase(problem_of_groups(half, 1, 196, 96, 1, 6, {0, 1, 0, 1})), {1, 5});
  expect_agreement(SelectiveScanCase(problem_of_groups(half, 1, 196, 160, 8, 20, {0})), {1, 5});
  expect_agreement(SelectiveScanCase(problem_of_groups(half, 1, 196, 96, 16, 0, {0, 1})), {1, 5});
}

TEST(CudaSelectiveScan, AgreesWithTheReferenceForVim) {
  for (ElementType type : kElementTypes) {
    expect_agreement(SelectiveScanCase({type, 1, 197, 384, 16, 12, {0, 1}, 0.5f}), {1, 4, 25});
  }
}

TEST(CudaSelectiveScan, AgreesWithTheReferenceForAnySize) {
  std::mt19937 random(7);
  const auto up_to = [&](int64_t most) { return std::uniform_int_distribution<int64_t>(1, most)(random); };
  for (uint32_t seed = 0; seed < 60; ++seed) {
    SelectiveScanProblem problem{
        kElementTypes[seed % 3], up_to(3), up_to(100), up_to(140), up_to(40), up_to(60), {}, 1.0f};
    for (int64_t k = up_to(4); k > 0; --k) problem.reverse.push_back(up_to(2) - 1);
    const std::vector<int64_t> chunks = {seed % 5 == 0 ? 1 : up_to(14)};
    expect_agreement(SelectiveScanCase(problem, seed), chunks, kThreadOrders[seed % 3]);
    const auto groups = problem_of_groups(problem.type, problem.batch, problem.tokens, problem.channels, problem.states,
                                          seed % 2 ? problem.rank : 0, problem.reverse, seed % 4 < 2);
    expect_agreement(SelectiveScanCase(groups, seed), chunks, kThreadOrders[seed % 3]);
  }
}

TEST(CudaSelectiveScan, TakesAnyDirections) {
  const std::vector<std::vector<int64_t>> patterns = {{0},       {1},       {0, 0},    {1, 0},       {1, 1},
                                                      {0, 1, 1}, {0, 0, 0}, {1, 0, 0}, {1, 0, 1, 0}, {1, 1, 1, 1}};
  for (const auto& reverse : patterns) {
    for (int64_t tokens : {1, 8, 37, 40}) {
      for (int64_t states : {4, 20}) {
        expect_agreement(SelectiveScanCase({ElementType::float32, 2, tokens, 20, states, 3, reverse, 0.5f}));
        expect_agreement(SelectiveScanCase(problem_of_groups(ElementType::float32, 2, tokens, 20, states, 0, reverse)));
      }
    }
  }
}

// Nor on the schedule: the states are carried by the same operations, wherever.
TEST(CudaSelectiveScan, DoesNotDependOnTheOrderOfTheThreads) {
  const auto half = ElementType::float16;
  const std::vector<int64_t> both = {0, 1};
  for (const SelectiveScanProblem& problem :
       {SelectiveScanProblem{half, 2, 75, 70, 20, 12, both, 0.5f},
        SelectiveScanProblem{half, 2, 75, 70, 20, 12, {0, 0}, 0.5f},
        SelectiveScanProblem{half, 2, 75, 70, 20, 12, {1, 0, 1}, 0.5f},
        SelectiveScanProblem{half, 2, 75, 70, 8, 12, both, 0.5f},
        SelectiveScanProblem{half, 2, 75, 70, 1, 12, both, 0.5f}, problem_of_groups(half, 2, 75, 70, 20, 12, both),
        problem_of_groups(half, 2, 75, 70, 1, 12, both), problem_of_groups(half, 2, 75, 70, 8, 0, both),
        problem_of_groups(half, 2, 75, 70, 1, 0, both)}) {
    const SelectiveScanCase c(problem);
    for (int64_t chunks : {1, 3}) {
      const auto plans = plans_with(c.problem, chunks);
      const Tensor first = output_of(c, plans[0], ThreadOrder::forward);
      for (const auto& plan : plans) {
        for (ThreadOrder order : kThreadOrders) {
          EXPECT_EQ(output_of(c, plan, order).bytes, first.bytes) << plan.to_string();
        }
      }
    }
  }
}

// Whatever is loaded several numbers at once if its address and strides allow it.
TEST(CudaSelectiveScan, TakesTensorsAtAnyAddress) {
  for (ElementType type : kElementTypes) {
    for (const SelectiveScanProblem& problem :
         {SelectiveScanProblem{type, 2, 21, 70, 16, 20, {0, 1}, 0.5f},
          problem_of_groups(type, 2, 21, 70, 16, 20, {0, 1}), problem_of_groups(type, 2, 21, 70, 16, 0, {0, 1})}) {
      const SelectiveScanCase c(problem);
      const auto element = static_cast<size_t>(bytes_of(type));
      std::vector<Tensor> moved;
      std::vector<const void*> pointers;
      for (const Bytes& input : c.inputs()) {
        Tensor& copy = moved.emplace_back(ElementType::float32, static_cast<int64_t>(input.size / 4 + 2));
        const bool is_float = input.data == c.A.data() || input.data == c.D.data() || input.data == c.dt_bias.data();
        const size_t by = is_float ? sizeof(float) : element;
        std::memcpy(copy.bytes.data() + by, input.data, input.size);
        pointers.push_back(copy.bytes.data() + by);
      }
      Tensor wanted = c.y, found = c.y;
      selective_scan_reference(problem, c.tensors(wanted));
      for (const auto& plan : plans_with(problem, 1)) {
        GuardedMemory workspace(plan.workspace_bytes, GuardedMemory::kAligned);
        GuardedMemory y(found.bytes.size() + element, GuardedMemory::kAligned);
        const auto tensors =
            with_operator(problem, [&](auto op) { return op.tensors(problem, pointers.data(), y.data() + element); });
        EXPECT_EQ(cuda::channels_per_thread(problem, plan, tensors), 1);
        run_selective_scan_blocks(problem, plan, tensors, workspace.data(), ThreadOrder::forward);
        std::copy_n(y.data() + element, found.bytes.size(), found.bytes.data());
        EXPECT_TRUE(is_close(found, wanted, magnitudes(c), roundings(problem), output_shape(problem)))
            << plan.to_string();
      }
    }
  }
}

TEST(CudaSelectiveScan, AgreesWithTheReferenceForALongSequence) {
  expect_agreement(SelectiveScanCase({ElementType::float32, 1, 3000, 16, 16, 12, {0, 1}, 0.5f}), {1, 2, 48});
}

TEST(CudaSelectiveScan, TakesExtremeStepSizes) {
  for (float bias : {-1e30f, -1e4f, -100.0f, -20.0f, 19.9f, 20.1f, 100.0f, 1e4f, 1e30f}) {
    SelectiveScanCase c({ElementType::float32, 1, 40, 20, 5, 3, {0, 1}, 0.5f});
    for (size_t i = 0; i < c.dt_bias.size(); i += 3) c.dt_bias[i] = bias;
    expect_agreement(c);
    SelectiveScanCase given(problem_of_groups(ElementType::float32, 1, 40, 20, 5, 0, {0, 1}));
    for (int64_t i = 0; i < given.delta.size(); i += 7) given.delta.set(i, bias);
    expect_agreement(given);
  }
}

TEST(CudaSelectiveScan, TakesDecaysThatDoNotDecay) {
  SelectiveScanCase c({ElementType::float32, 1, 40, 20, 5, 3, {0, 1}, 0.5f});
  for (size_t i = 0; i < c.A.size(); ++i) c.A[i] = i % 3 == 0 ? 0.0f : i % 3 == 1 ? 0.01f : -1e-20f;
  expect_agreement(c);
}

TEST(CudaSelectiveScan, PassesNanInfinityAndDenormalsOnAsTheReferenceDoes) {
  for (int64_t states : {1, 5, 17}) {
    for (float special : {std::nanf(""), HUGE_VALF, -HUGE_VALF, 1e-40f, -1e-40f, 1e20f}) {
      const SelectiveScanCase usual({ElementType::float32, 1, 37, 20, states, 3, {0, 1}, 0.5f});
      for (int input = 0; input < 7; ++input) {
        SCOPED_TRACE("input " + std::to_string(input) + " is " + std::to_string(special));
        SelectiveScanCase c = usual;
        const int64_t row = 3 + 2 * states;
        if (input == 0) c.u.set(10 * 20 + 7, special);
        if (input == 1) c.xz.set(10 * 40 + 27, special);
        if (input == 2) c.dt_bc.set(10 * row + 1, special);                   // of the low rank
        if (input == 3) c.dt_bc.set(10 * row + 3, special);                   // of B
        if (input == 4) c.dt_bc.set(10 * row + 3 + 2 * states - 1, special);  // of C
        if (input == 5) c.A[static_cast<size_t>(8 * states - 1)] = special;
        if (input == 6) c.D[7] = special;
        expect_agreement(c);
      }
    }
  }
}

TEST(CudaSelectiveScan, PassesNanInfinityAndDenormalsOnAsTheReferenceDoesForGroups) {
  for (int64_t states : {1, 5, 17}) {
    for (int64_t rank : {0, 3}) {
      for (float special : {std::nanf(""), HUGE_VALF, -HUGE_VALF, 1e-40f, -1e-40f, 1e20f}) {
        const SelectiveScanCase usual(problem_of_groups(ElementType::float32, 1, 37, 20, states, rank, {0, 1}));
        for (int input = 0; input < 6; ++input) {
          SCOPED_TRACE("input " + std::to_string(input) + " is " + std::to_string(special));
          SelectiveScanCase c = usual;
          if (input == 0) c.u.set(10 * 20 + 7, special);
          if (input == 1) c.delta.set(10 * (rank == 0 ? 20 : rank) + 1, special);
          if (input == 2) c.B.set(10 * states, special);
          if (input == 3) c.C.set(11 * states - 1, special);
          if (input == 4) c.A[static_cast<size_t>(8 * states - 1)] = special;
          if (input == 5) c.D[7] = special;
          expect_agreement(c);
        }
      }
    }
  }
}

TEST(CudaSelectiveScan, AnEmptyTensorIsNoWork) {
  for (auto [batch, tokens] : {std::pair<int64_t, int64_t>{0, 5}, {2, 0}}) {
    const auto plan = cuda_plan_of({ElementType::float16, batch, tokens, 20, 5, 3, {0, 1}, 0.5f}, {});
    EXPECT_EQ(plan.chunks, 0);
    EXPECT_EQ(plan.workspace_bytes, 0u);
  }
}

}  // namespace
}  // namespace vimdeploy::testing
