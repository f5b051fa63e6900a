// The C functions of the library, called as ctypes does.

#include "c_api/vimdeploy.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "onnxruntime/library_under_test.h"
#include "scan/shapes.h"
#include "testing/compare.h"
#include "testing/expectations.h"
#include "testing/random_tensors.h"

namespace vimdeploy::testing {
namespace {

std::string text_of(const char* message) { return message == nullptr ? "" : message; }

// A call whose arguments are right, each of which a test may spoil.
struct ScanCall {
  SelectiveScanCase c;
  int type, softplus, threads = 2;
  std::array<int64_t, 6> sizes;
  std::vector<const void*> inputs;  // and NULL for a delta_weight that the operator does not have
  Tensor y;
  std::vector<float> last_state;

  explicit ScanCall(const SelectiveScanProblem& p)
      : c(p),
        type(static_cast<int>(p.type)),
        softplus(static_cast<int>(p.delta_softplus)),
        sizes{p.batch, p.directions(), p.tokens, p.channels, p.states, p.rank},
        inputs(pointers_to(c.inputs())),
        y(c.y),
        last_state(static_cast<size_t>(p.batch * p.directions() * p.channels * p.states), -1.0f) {
    inputs.resize(8);
  }

  std::string run() {
    auto* scan = entry_point<decltype(VimdeploySelectiveScan)>("VimdeploySelectiveScan");
    return text_of(scan(type, sizes.data(), c.problem.reverse.data(), softplus, inputs.data(), y.data(),
                        last_state.data(), threads));
  }
};

SelectiveScanProblem some_scan(int64_t rank) {
  return problem_of_groups(ElementType::float32, 2, 70, 20, 3, rank, {0, 1, 0});
}

TEST(CScan, AgreesWithTheReference) {
  for (ElementType type : kElementTypes) {
    for (int64_t rank : {0, 5}) {
      for (int64_t softplus : {0, 1}) {
        const auto problem = problem_of_groups(type, 2, 70, 20, 3, rank, {0, 1, 0}, softplus);
        ScanCall call(problem);
        ASSERT_EQ(call.run(), "");
        Tensor wanted = call.c.y;
        std::vector<float> state(call.last_state.size());
        auto tensors = call.c.tensors(wanted);
        tensors.last_state = state.data();
        selective_scan_reference(problem, tensors);
        EXPECT_TRUE(is_close(call.y, wanted, magnitudes(call.c), roundings(problem), output_shape(problem)));
        for (size_t i = 0; i < state.size(); ++i)
          EXPECT_NEAR(call.last_state[i], state[i], 1e-4f + 1e-4f * std::fabs(state[i]));
      }
    }
  }
}

TEST(CScan, DoesNotDependOnTheThreads) {
  ScanCall call(problem_of_groups(ElementType::float32, 4, 300, 100, 16, 0, {0, 1, 0}));  // is worth six threads
  decltype(Tensor::bytes) first;
  for (int threads : {1, 2, 3, 1000}) {
    call.threads = threads;
    ASSERT_EQ(call.run(), "");
    if (first.empty()) first = call.y.bytes;
    EXPECT_EQ(call.y.bytes, first) << threads << " threads";
  }
}

TEST(CScan, StatesAfterNoTokensAreZero) {
  auto problem = some_scan(0);
  problem.tokens = 0;
  ScanCall call(problem);
  call.inputs[0] = call.inputs[1] = call.inputs[3] = call.inputs[4] = nullptr;  // as an empty array may have it
  ASSERT_EQ(call.run(), "");
  EXPECT_EQ(call.last_state, std::vector<float>(call.last_state.size(), 0.0f));
}

TEST(CScan, NeedsNoLastState) {
  ScanCall call(some_scan(4));
  auto* scan = entry_point<decltype(VimdeploySelectiveScan)>("VimdeploySelectiveScan");
  ASSERT_EQ(call.run(), "");
  Tensor y = call.c.y;
  EXPECT_EQ(scan(0, call.sizes.data(), call.c.problem.reverse.data(), 1, call.inputs.data(), y.data(), nullptr, 1),
            nullptr);
  EXPECT_EQ(y.bytes, call.y.bytes);
}

TEST(CScan, WrongSizesAreASentence) {
  const std::array<const char*, 5> names = {"B (batch)", "G", "L (tokens)", "E (channels)", "N (states)"};
  for (size_t i = 0; i < names.size(); ++i) {
    for (int64_t size : {int64_t{-1}, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()}) {
      ScanCall call(some_scan(0));
      call.sizes[i] = size;
      const std::string begin = std::string("SelectiveScan: ") + names[i] + " is " + std::to_string(size) + ", wanted";
      EXPECT_EQ(call.run().substr(0, begin.size()), begin);
    }
  }
  ScanCall call(some_scan(0));
  call.sizes[5] = -3;
  EXPECT_EQ(call.run(), "LowRankSelectiveScan: R (rank) is -3, wanted at least 1");
  call.sizes = {int64_t{1} << 40, 3, int64_t{1} << 40, int64_t{1} << 40, 1, 0};
  EXPECT_EQ(call.run(), "SelectiveScan: u is larger than any memory");
}

TEST(CScan, WrongArgumentsAreASentence) {
  const auto message = [](auto spoil) {
    ScanCall call(some_scan(0));
    spoil(call);
    return call.run();
  };
  EXPECT_EQ(message([](ScanCall& c) { c.type = 3; }),
            "SelectiveScan: type is 3, wanted 0 (float32), 1 (float16) or 2 (bfloat16)");
  EXPECT_EQ(message([](ScanCall& c) { c.type = -1; }),
            "SelectiveScan: type is -1, wanted 0 (float32), 1 (float16) or 2 (bfloat16)");
  EXPECT_EQ(message([](ScanCall& c) { c.threads = 0; }), "SelectiveScan: threads is 0, wanted at least 1");
  EXPECT_EQ(message([](ScanCall& c) { c.softplus = 2; }),
            "SelectiveScan: attribute delta_softplus is 2, wanted 0 or 1");
  EXPECT_EQ(message([](ScanCall& c) { c.c.problem.reverse[1] = 7; }),
            "SelectiveScan: attribute reverse[1] is 7, wanted 0 or 1");
  EXPECT_EQ(message([](ScanCall& c) { c.inputs[2] = nullptr; }), "SelectiveScan: A is NULL");
  EXPECT_EQ(message([](ScanCall& c) { c.sizes[5] = 5; }), "LowRankSelectiveScan: delta_weight is NULL");
}

TEST(CScan, NullPointersAreASentence) {
  ScanCall call(some_scan(0));
  auto* scan = entry_point<decltype(VimdeploySelectiveScan)>("VimdeploySelectiveScan");
  const int64_t *sizes = call.sizes.data(), *reverse = call.c.problem.reverse.data();
  const void* const* inputs = call.inputs.data();
  const std::string missing = "SelectiveScan: sizes, reverse or inputs is NULL";
  EXPECT_EQ(text_of(scan(0, nullptr, reverse, 1, inputs, call.y.data(), nullptr, 1)), missing);
  EXPECT_EQ(text_of(scan(0, sizes, nullptr, 1, inputs, call.y.data(), nullptr, 1)), missing);
  EXPECT_EQ(text_of(scan(0, sizes, reverse, 1, nullptr, call.y.data(), nullptr, 1)), missing);
  EXPECT_EQ(text_of(scan(0, sizes, reverse, 1, inputs, nullptr, nullptr, 1)), "SelectiveScan: y is NULL");
}

TEST(CScan, EveryThreadHasAMessageOfItsOwn) {
  ScanCall call(some_scan(0));
  auto* scan = entry_point<decltype(VimdeploySelectiveScan)>("VimdeploySelectiveScan");
  const char* here =
      scan(9, call.sizes.data(), call.c.problem.reverse.data(), 1, call.inputs.data(), call.y.data(), nullptr, 1);
  std::thread([&] {
    scan(0, call.sizes.data(), call.c.problem.reverse.data(), 1, call.inputs.data(), call.y.data(), nullptr, -5);
  }).join();
  EXPECT_EQ(text_of(here), "SelectiveScan: type is 9, wanted 0 (float32), 1 (float16) or 2 (bfloat16)");
}

TEST(CConv1d, AgreesWithTheReference) {
  auto* conv1d = entry_point<decltype(VimdeployCausalConv1d)>("VimdeployCausalConv1d");
  for (ElementType type : kElementTypes) {
    for (int64_t silu : {0, 1}) {
      const Conv1dCase c({type, 2, 37, 20, 4, {0, 1, 1}, 33, silu, kCausalConv1dName});
      const int64_t sizes[] = {2, 37, 33, 3, 20, 4};
      const void* inputs[] = {c.x.data(), c.weight.data(), c.bias.data()};
      Tensor found = c.u, wanted = c.u;
      ASSERT_EQ(text_of(conv1d(static_cast<int>(type), sizes, c.problem.reverse.data(), static_cast<int>(silu), inputs,
                               found.data(), 2)),
                "");
      conv1d_reference(c.problem, c.tensors(wanted));
      EXPECT_TRUE(is_close(found, wanted, magnitudes(c), roundings(c.problem), output_shape(c.problem)));
    }
  }
}

TEST(CConv1d, WrongArgumentsAreASentence) {
  auto* conv1d = entry_point<decltype(VimdeployCausalConv1d)>("VimdeployCausalConv1d");
  const Conv1dCase c({ElementType::float32, 2, 37, 20, 4, {0, 1}, 33, 1, kCausalConv1dName});
  const void* inputs[] = {c.x.data(), c.weight.data(), c.bias.data()};
  Tensor u = c.u;
  const auto message = [&](std::array<int64_t, 6> sizes, int silu = 1) {
    return text_of(conv1d(0, sizes.data(), c.problem.reverse.data(), silu, inputs, u.data(), 1));
  };
  EXPECT_EQ(message({2, 37, 33, 2, 20, 4}), "");
  EXPECT_EQ(message({2, 37, 19, 2, 20, 4}), "CausalConv1d: X (channels of x) is 19, wanted at least 20");
  EXPECT_EQ(message({2, 37, 33, 0, 20, 4}), "CausalConv1d: K is 0, wanted 1 to 65536");
  EXPECT_EQ(message({2, 37, 33, 2, 20, 0}), "CausalConv1d: W (width) is 0, wanted at least 1");
  EXPECT_EQ(message({2, 37, 33, 2, 20, 4}, 2), "CausalConv1d: attribute silu is 2, wanted 0 or 1");
  inputs[1] = nullptr;
  EXPECT_EQ(message({2, 37, 33, 2, 20, 4}), "CausalConv1d: weight is NULL");
}

// A call of VimdeployExpectedScan, each of whose arguments a test may spoil.
struct Expectation {
  const char* name = "BidirectionalSelectiveScan";
  int type = 1;
  std::array<int64_t, 6> sizes{1, 2, 197, 384, 16, 12};
  std::array<int64_t, 8> facts{132, 228 << 10, 227 << 10, 90, 16, 1980000, 3350000, 50 << 20};
  double us = 0;
  std::array<char, 64> plan{};

  std::string run() {
    auto* expect = entry_point<decltype(VimdeployExpectedScan)>("VimdeployExpectedScan");
    return text_of(expect(name, type, sizes.data(), facts.data(), &us, plan.data(), plan.size()));
  }
};

TEST(CExpectedScan, TellsThePlanAndItsTime) {
  Expectation alone, many;
  many.sizes[0] = 128;
  EXPECT_EQ(alone.run(), "");
  EXPECT_EQ(many.run(), "");
  EXPECT_GT(alone.us, 1);
  EXPECT_GT(many.us, 4 * alone.us);
  EXPECT_EQ(std::string(many.plan.data()), "BidirectionalSelectiveScan on CUDA: whole sequences of 200 toke");  // cut
}

TEST(CExpectedScan, WrongArgumentsAreASentence) {
  const auto message = [](auto&& spoil) {
    Expectation call;
    spoil(call);
    return call.run();
  };
  EXPECT_EQ(message([](auto& call) { call.name = "Scan"; }), "there is no scan Scan");
  EXPECT_EQ(message([](auto& call) { call.type = 3; }),
            "BidirectionalSelectiveScan: type is 3, wanted 0 (float32), 1 (float16) or 2 (bfloat16)");
  EXPECT_EQ(message([](auto& call) { call.facts[5] = 0; }), "a device's clock_khz is 0, wanted 1 to 1099511627776");
  EXPECT_EQ(message([](auto& call) { call.sizes[1] = 0; }), "BidirectionalSelectiveScan: K is 0, wanted 1 to 65536");
  EXPECT_EQ(message([](auto& call) { call.sizes[4] = 0; }),
            "BidirectionalSelectiveScan: N (states) is 0, wanted at least 1");
  EXPECT_EQ(message([](auto& call) { call.sizes = {1 << 20, 2, 1 << 20, 1 << 20, 16, 12}; }),
            "BidirectionalSelectiveScan: u is larger than any memory");
  EXPECT_NE(message([](auto& call) { call.sizes[5] = 100000; }).find("R (rank)"), std::string::npos);
}

}  // namespace
}  // namespace vimdeploy::testing
