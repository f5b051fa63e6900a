#include "scan/cpu/operators.h"

#include <gtest/gtest.h>

#include <cmath>

#include "scan/reference/operators.h"
#include "scan/shapes.h"
#include "testing/compare.h"
#include "testing/expectations.h"
#include "testing/hosts.h"
#include "testing/random_tensors.h"

namespace vimdeploy::testing {
namespace {

void expect_all_kernels_agree(const Conv1dCase& c, int64_t threads = 2) {
  SCOPED_TRACE(describe(c.problem));
  const auto plan = plan_of(c.problem, {threads});
  Tensor wanted = c.u;
  conv1d_reference(c.problem, c.tensors(wanted));
  const auto magnitude = magnitudes(c);
  for (const auto& kernel : conv1d_kernels()) {
    SCOPED_TRACE(name_of_instruction_set(kernel.target));
    GuardedMemory scratch(plan.scratch_bytes), u(c.u.bytes.size());
    const Conv1dTensors tensors{c.x.data(), c.weight.data(), c.bias.data(), u.data()};
    kernel.run(c.problem, plan, tensors, scratch.data(), serial_for());
    Tensor found = c.u;
    std::copy_n(u.data(), u.size(), found.bytes.data());
    EXPECT_TRUE(scratch.is_intact() && u.is_intact()) << "written outside of the scratch or of u";
    EXPECT_TRUE(is_close(found, wanted, magnitude, roundings(c.problem), output_shape(c.problem)));
  }
}

TEST(Conv1d, AgreesWithTheReferenceForEveryTypeAndSize) {
  for (ElementType type : kElementTypes) {
    for (int64_t width = 1; width <= 5; ++width) {
      for (int64_t channels : {1, 13, 16, 65}) {
        for (int64_t tokens : {1, 2, 31, 32, 33, 197}) {
          expect_all_kernels_agree(Conv1dCase({type, tokens < 100 ? 3 : 1, tokens, channels, width, {0, 1}}));
        }
      }
    }
  }
}

TEST(Conv1d, TakesAnyDirections) {
  const std::vector<std::vector<int64_t>> patterns = {{0}, {1}, {0, 0}, {1, 0}, {1, 1}, {0, 1, 1}, {1, 0, 1, 0}};
  for (const auto& reverse : patterns)
    expect_all_kernels_agree(Conv1dCase({ElementType::float32, 2, 37, 20, 4, reverse}));
}

TEST(Conv1d, TakesRowsOfAnyLengthWithAndWithoutSilu) {
  for (ElementType type : kElementTypes) {
    for (int64_t channels : {1, 16, 33}) {
      for (int64_t others : {0, 1, 40}) {
        for (int64_t silu : {0, 1}) {
          expect_all_kernels_agree(
              Conv1dCase({type, 2, 37, channels, 4, {0, 1, 0}, channels + others, silu, kCausalConv1dName}));
        }
      }
    }
  }
}

TEST(Conv1d, TakesAWindowLongerThanTheSequenceAndTheBlock) {
  for (int64_t tokens : {1, 3, 40})
    expect_all_kernels_agree(Conv1dCase({ElementType::float32, 1, tokens, 17, 50, {0, 1}}));
}

TEST(Conv1d, DoesNotDependOnTheThreads) {
  const Conv1dCase c({ElementType::float32, 2, 65, 200, 4, {0, 1}});
  for (const auto& kernel : conv1d_kernels()) {
    decltype(Tensor::bytes) first;
    for (int64_t threads : {1, 2, 5, 64}) {
      for (ParallelFor host : {serial_for(), threaded_for()}) {
        const auto plan = plan_of(c.problem, {threads});
        GuardedMemory scratch(plan.scratch_bytes);
        Tensor found = c.u;
        kernel.run(c.problem, plan, c.tensors(found), scratch.data(), host);
        if (first.empty()) first = found.bytes;
        EXPECT_EQ(found.bytes, first) << name_of_instruction_set(kernel.target) << " " << threads << " threads";
      }
    }
  }
}

TEST(Conv1d, IsTheSameWithNonTemporalStores) {
  const Conv1dCase c({ElementType::float32, 2, 70, 48, 4, {0, 1}});
  auto plan = plan_of(c.problem, {2});
  for (const auto& kernel : conv1d_kernels()) {
    GuardedMemory scratch(plan.scratch_bytes), unaligned(c.u.bytes.size());
    Tensor cached = c.u, streamed = c.u;
    plan.streams = false;
    kernel.run(c.problem, plan, c.tensors(cached), scratch.data(), serial_for());
    plan.streams = true;
    kernel.run(c.problem, plan, c.tensors(streamed), scratch.data(), threaded_for());
    EXPECT_EQ(streamed.bytes, cached.bytes) << name_of_instruction_set(kernel.target);
    auto tensors = c.tensors(streamed);
    tensors.u = unaligned.data();
    kernel.run(c.problem, plan, tensors, scratch.data(), serial_for());
    EXPECT_TRUE(unaligned.is_intact() && std::equal(cached.bytes.begin(), cached.bytes.end(), unaligned.data()))
        << name_of_instruction_set(kernel.target) << ", memory that is not aligned to a cache line";
  }
}

TEST(Conv1d, PassesNanInfinityAndDenormalsOnAsTheReferenceDoes) {
  for (float special : {std::nanf(""), HUGE_VALF, -HUGE_VALF, 1e-40f, 3e38f}) {
    Conv1dCase c({ElementType::float32, 1, 40, 20, 4, {0, 1}});
    c.x.set(20 * 40 + 5, special);
    c.x.set(39 * 40 + 19, special);
    expect_all_kernels_agree(c);
  }
}

TEST(Conv1d, AnEmptyTensorIsNoWork) {
  for (auto [batch, tokens] : {std::pair<int64_t, int64_t>{0, 5}, {2, 0}}) {
    expect_all_kernels_agree(Conv1dCase({ElementType::float32, batch, tokens, 20, 4, {0, 1}}));
  }
}

}  // namespace
}  // namespace vimdeploy::testing
