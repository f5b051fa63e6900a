#include "scan/conv1d.h"

#include <gtest/gtest.h>

#include <cmath>

#include "testing/compare.h"
#include "testing/hosts.h"
#include "scan/shapes.h"
#include "testing/random_tensors.h"

namespace vimdeploy::testing {
namespace {

std::string describe(const Conv1dProblem& p) {
  std::string text = std::string(name_of(p.type)) + " B " + std::to_string(p.batch) + " L " + std::to_string(p.tokens) +
                     " E " + std::to_string(p.channels) + " W " + std::to_string(p.width) + " reverse";
  for (int64_t flag : p.reverse) text += " " + std::to_string(flag);
  return text;
}

// |bias| + sum |weight * x| of every number of u.
std::vector<float> magnitudes(const Conv1dCase& c) {
  const auto& p = c.problem;
  std::vector<float> sums;
  for (int64_t k = 0; k < p.directions(); ++k) {
    for (int64_t bl = 0; bl < p.batch * p.tokens; ++bl) {
      for (int64_t e = 0; e < p.channels; ++e) {
        const int64_t l = bl % p.tokens;
        float sum = std::fabs(c.bias.get(k * p.channels + e));
        for (int64_t w = 0; w < p.width; ++w) {
          const int64_t away = p.reverse[static_cast<size_t>(k)] ? p.width - 1 - w : w - p.width + 1;
          if (l + away < 0 || l + away >= p.tokens) continue;
          sum +=
              std::fabs(c.weight.get((k * p.channels + e) * p.width + w) * c.xz.get((bl + away) * 2 * p.channels + e));
        }
        sums.push_back(sum);
      }
    }
  }
  return sums;
}

// A rounding for each of the W + 1 terms on either side, and ten for silu, whose slope is at most 1.1.
float roundings(const Conv1dProblem& problem) { return 1.1f * 2.0f * static_cast<float>(problem.width + 1) + 10.0f; }

void expect_all_kernels_agree(const Conv1dCase& c, int64_t threads = 2) {
  SCOPED_TRACE(describe(c.problem));
  const auto plan = plan_of(c.problem, {threads});
  Tensor wanted = c.u;
  conv1d_reference(c.problem, c.tensors(wanted));
  const auto magnitude = magnitudes(c);
  for (const auto& kernel : conv1d_kernels()) {
    SCOPED_TRACE(name_of_instruction_set(kernel.target));
    GuardedMemory scratch(plan.scratch_bytes), u(c.u.bytes.size());
    const Conv1dTensors tensors{c.xz.data(), c.weight.data(), c.bias.data(), u.data()};
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

TEST(Conv1d, TakesAWindowLongerThanTheSequenceAndTheBlock) {
  for (int64_t tokens : {1, 3, 40})
    expect_all_kernels_agree(Conv1dCase({ElementType::float32, 1, tokens, 17, 50, {0, 1}}));
}

TEST(Conv1d, DoesNotDependOnTheThreads) {
  const Conv1dCase c({ElementType::float32, 2, 65, 200, 4, {0, 1}});
  for (const auto& kernel : conv1d_kernels()) {
    std::vector<unsigned char> first;
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

TEST(Conv1d, PassesNanInfinityAndDenormalsOnAsTheReferenceDoes) {
  for (float special : {std::nanf(""), HUGE_VALF, -HUGE_VALF, 1e-40f, 3e38f}) {
    Conv1dCase c({ElementType::float32, 1, 40, 20, 4, {0, 1}});
    c.xz.set(20 * 40 + 5, special);
    c.xz.set(39 * 40 + 19, special);
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
