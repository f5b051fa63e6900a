// The CUDA kernels on a device against the plain loops, on random numbers with a new seed in every run. The tests of
// ShortDevice are short enough for compute-sanitizer, too.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <random>
#include <set>

#include "scan/reference/operators.h"
#include "scan/shapes.h"
#include "testing/compare.h"
#include "testing/cuda_device.h"
#include "testing/expectations.h"

namespace vimdeploy::testing {
namespace {

class Device : public ::testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
    if (count == 0) GTEST_SKIP() << "no CUDA device: the driver counts none";
    expect_success(read_cuda_facts(facts));
    stream.emplace();
    seed = std::random_device()();
    std::printf("seed %u\n", seed);
  }

  void TearDown() override {
    for (const std::string& plan : printed) std::printf("%s\n", plan.c_str());
  }

  // Plans of every kind: one chunk, a few chunks and as many as possible with every schedule, with one channel a thread
  // and with two, with sums in shared memory and in the workspace; and the plan that is chosen for this device.
  std::vector<SelectiveScanCudaPlan> plans_of(const SelectiveScanProblem& problem) const {
    std::vector<SelectiveScanCudaPlan> plans{cuda_plan_of(problem, facts)};
    const auto add = [&](const SelectiveScanCudaPlan& plan) {
      const bool is_launchable = plan.schedule != Schedule::cluster || plan.chunks <= facts.largest_cluster;
      if (!is_launchable || static_cast<int64_t>(plan.shared_bytes) > facts.shared_bytes_per_block) return;
      for (const SelectiveScanCudaPlan& other : plans) {
        if (other.to_string() == plan.to_string()) return;
      }
      plans.push_back(plan);
    };
    for (Schedule schedule : kSchedules) {
      const int64_t most = schedule == Schedule::cluster ? facts.largest_cluster : std::max<int64_t>(problem.tokens, 1);
      for (int64_t chunks : {int64_t{1}, int64_t{3}, most}) {
        for (int64_t channels_per_thread : {1, 2}) {
          for (bool sums_in_shared : {false, true}) {
            add(cuda_plan_with(problem, schedule, chunks, sums_in_shared, channels_per_thread));
          }
        }
      }
    }
    return plans;
  }

  void expect_agreement(const SelectiveScanCase& c) {
    SCOPED_TRACE(describe(c.problem));
    expect_success(check(c.problem));
    expect_success(check(c.problem, facts));
    Tensor wanted = c.y;
    selective_scan_reference(c.problem, c.tensors(wanted));
    const auto magnitude = magnitudes(c);
    for (const SelectiveScanCudaPlan& plan : plans_of(c.problem)) {
      SCOPED_TRACE(plan.to_string());
      if (printed.size() < kPlansToPrint) printed.insert(plan.to_string());
      const Tensor found = run_twice(c.y, [&] { return SelectiveScanOnDevice(c, plan); });
      EXPECT_TRUE(is_close(found, wanted, magnitude, roundings(c.problem), output_shape(c.problem)));
    }
  }

  void expect_agreement(const Conv1dCase& c) {
    SCOPED_TRACE(describe(c.problem));
    expect_success(check(c.problem));
    expect_success(check(c.problem, facts));
    Tensor wanted = c.u;
    conv1d_reference(c.problem, c.tensors(wanted));
    const Tensor found = run_twice(c.u, [&] { return Conv1dOnDevice(c); });
    EXPECT_TRUE(is_close(found, wanted, magnitudes(c), roundings(c.problem), output_shape(c.problem)));
  }

  // Returns the result; expects a second run, in other memory, to give the same bits: a difference would be a race.
  template <typename Make>
  Tensor run_twice(const Tensor& like, Make make) {
    Tensor first = like, second = like;
    for (Tensor* result : {&first, &second}) {
      const auto on_device = make();
      on_device.launch(*stream);
      stream->wait();
      on_device.output().copy_to(*result);
      EXPECT_TRUE(on_device.is_intact()) << "written outside of the output or of the workspace";
    }
    EXPECT_EQ(first.bytes, second.bytes) << "two runs differ";
    return first;
  }

  // Expects a CUDA graph of the launches to give the same bits. It is captured in the mode that forbids synchronization
  // and allocation.
  template <typename OnDevice>
  void expect_the_same_from_a_graph(const OnDevice& on_device, const Tensor& like) {
    Tensor direct = like, replayed = like;
    on_device.launch(*stream);
    stream->wait();
    on_device.output().copy_to(direct);

    cudaGraph_t graph = nullptr;
    cudaGraphExec_t replay = nullptr;
    expect_success(cudaStreamBeginCapture(*stream, cudaStreamCaptureModeGlobal));
    on_device.launch(*stream);
    expect_success(cudaStreamEndCapture(*stream, &graph));
    expect_success(cudaGraphInstantiate(&replay, graph, 0));
    on_device.output().fill_with_nan();
    for (int i = 0; i < 2; ++i) expect_success(cudaGraphLaunch(replay, *stream));
    stream->wait();
    on_device.output().copy_to(replayed);
    EXPECT_EQ(direct.bytes, replayed.bytes);
    expect_success(cudaGraphExecDestroy(replay));
    expect_success(cudaGraphDestroy(graph));
  }

  static constexpr size_t kPlansToPrint = 8;
  CudaFacts facts;
  std::optional<Stream> stream;
  uint32_t seed = 0;
  std::set<std::string> printed;
};

class ShortDevice : public Device {};

TEST_F(ShortDevice, ScanAgreesWithTheReference) {
  for (ElementType type : kElementTypes) {
    expect_agreement(SelectiveScanCase({type, 2, 70, 72, 16, 12, {0, 1}, 0.5f}, seed));
    expect_agreement(SelectiveScanCase({type, 1, 35, 33, 5, 3, {1, 0, 1}, 1.0f}, seed));
    expect_agreement(SelectiveScanCase({type, 1, 35, 33, 1, 3, {1, 0, 1}, 1.0f}, seed));
  }
}

TEST_F(ShortDevice, ScanOfGroupsAgreesWithTheReference) {
  for (ElementType type : kElementTypes) {
    for (int64_t rank : {0, 5}) {
      for (int64_t states : {1, 8, 16, 20}) {
        expect_agreement(SelectiveScanCase(problem_of_groups(type, 2, 35, 72, states, rank, {0, 1}), seed));
      }
      expect_agreement(SelectiveScanCase(problem_of_groups(type, 1, 35, 33, 3, rank, {1, 0, 1}, 0), seed));
    }
  }
}

TEST_F(ShortDevice, ConvolutionAgreesWithTheReference) {
  for (ElementType type : kElementTypes) {
    expect_agreement(Conv1dCase({type, 2, 70, 72, 4, {0, 1}}, seed));
    expect_agreement(Conv1dCase({type, 1, 35, 33, 3, {1, 0, 1}}, seed));
    expect_agreement(Conv1dCase(causal_problem(type, 2, 35, 36, 4, {0}, 40, 0), seed));
    expect_agreement(Conv1dCase(causal_problem(type, 2, 35, 33, 3, {0, 1}, 33, 1), seed));
  }
}

TEST_F(Device, ScanAgreesForEveryNumberOfTokens) {
  for (ElementType type : kElementTypes) {
    for (int64_t tokens = 1; tokens <= 17; ++tokens) {
      expect_agreement(SelectiveScanCase({type, 3, tokens, 13, 8, 1, {0, 1}, 0.5f}, seed));
    }
    for (int64_t tokens : {31, 32, 33, 63, 64, 65, 127, 128, 129, 197}) {
      expect_agreement(SelectiveScanCase({type, 2, tokens, 40, 16, 12, {0, 1}, 0.5f}, seed));
    }
    expect_agreement(SelectiveScanCase({type, 1, 6085, 16, 16, 12, {0, 1}, 0.5f}, seed));
  }
}

TEST_F(Device, ScanAgreesForEveryChannelStateAndRank) {
  for (ElementType type : kElementTypes) {
    for (int64_t channels : {1, 31, 32, 33, 65, 130}) {
      for (int64_t states : {1, 2, 7, 8, 15, 16, 17, 32, 64}) {
        expect_agreement(SelectiveScanCase({type, 2, 37, channels, states, 5, {0, 1}, 0.5f}, seed));
      }
    }
    for (int64_t rank : {1, 2, 7, 12, 24, 48, 96}) {
      expect_agreement(SelectiveScanCase({type, 2, 37, 65, 16, rank, {0, 1}, 0.5f}, seed));
    }
  }
}

TEST_F(Device, ScanAgreesForTheReleasedModels) {
  for (ElementType type : kElementTypes) {
    expect_agreement(SelectiveScanCase({type, 8, 197, 384, 16, 12, {0, 1}, 0.5f}, seed));
    expect_agreement(SelectiveScanCase({type, 1, 730, 384, 16, 12, {0, 1}, 0.5f}, seed));
    expect_agreement(SelectiveScanCase({type, 1, 197, 768, 16, 24, {0, 1}, 0.5f}, seed));
    expect_agreement(SelectiveScanCase({type, 1, 197, 1536, 16, 48, {0, 1}, 0.5f}, seed));
  }
}

TEST_F(Device, ScanAgreesForModelsOfOthers) {
  for (ElementType type : kElementTypes) {
    expect_agreement(SelectiveScanCase(problem_of_groups(type, 2, 3136, 96, 1, 6, {0, 1, 0, 1}), seed));
    expect_agreement(SelectiveScanCase(problem_of_groups(type, 8, 196, 160, 8, 20, {0}), seed));
    expect_agreement(SelectiveScanCase(problem_of_groups(type, 1, 1000, 1536, 16, 48, {0}), seed));
    expect_agreement(SelectiveScanCase(problem_of_groups(type, 1, 1000, 1536, 16, 0, {0}), seed));
  }
}

TEST_F(Device, ScanOfGroupsAgreesForEveryChannelAndState) {
  for (ElementType type : kElementTypes) {
    for (int64_t rank : {0, 5}) {
      for (int64_t channels : {1, 31, 64, 65, 130}) {
        for (int64_t states : {1, 2, 7, 8, 9, 16, 17, 64}) {
          expect_agreement(SelectiveScanCase(problem_of_groups(type, 2, 37, channels, states, rank, {0, 1}), seed));
        }
      }
    }
  }
}

TEST_F(Device, ScanAgreesForAnySize) {
  std::mt19937 random(seed);
  const auto up_to = [&](int64_t most) { return std::uniform_int_distribution<int64_t>(1, most)(random); };
  for (uint32_t i = 0; i < 60; ++i) {
    SelectiveScanProblem problem{
        kElementTypes[i % 3], up_to(4), up_to(300), up_to(200), up_to(40), up_to(24), {}, 1.0f};
    for (int64_t k = up_to(4); k > 0; --k) problem.reverse.push_back(up_to(2) - 1);
    expect_agreement(SelectiveScanCase(problem, seed + i));
    const auto groups = problem_of_groups(problem.type, problem.batch, problem.tokens, problem.channels, problem.states,
                                          i % 2 ? problem.rank : 0, problem.reverse, i % 4 < 2);
    expect_agreement(SelectiveScanCase(groups, seed + i));
  }
}

TEST_F(Device, ScanTakesAnyDirections) {
  const std::vector<std::vector<int64_t>> patterns = {{0}, {1}, {0, 0}, {1, 0}, {1, 1}, {0, 1, 1}, {1, 0, 1, 0}};
  for (const auto& reverse : patterns) {
    for (ElementType type : kElementTypes) {
      expect_agreement(SelectiveScanCase({type, 2, 150, 40, 16, 3, reverse, 0.5f}, seed));
      expect_agreement(SelectiveScanCase(problem_of_groups(type, 2, 150, 40, 8, 0, reverse), seed));
    }
  }
}

TEST_F(Device, ScanTakesExtremeStepSizesAndDecaysThatDoNotDecay) {
  const SelectiveScanProblem problem{ElementType::float32, 1, 140, 40, 16, 3, {0, 1}, 0.5f};
  for (float bias : {-1e30f, -1e4f, -100.0f, -20.0f, 19.9f, 20.1f, 100.0f, 1e4f, 1e30f}) {
    SelectiveScanCase c(problem, seed);
    for (size_t i = 0; i < c.dt_bias.size(); i += 3) c.dt_bias[i] = bias;
    expect_agreement(c);
  }
  SelectiveScanCase c(problem, seed);
  for (size_t i = 0; i < c.A.size(); ++i) c.A[i] = i % 3 == 0 ? 0.0f : i % 3 == 1 ? 0.01f : -1e-20f;
  expect_agreement(c);
}

TEST_F(Device, ScanPassesNanAndInfinityOnAsTheReferenceDoes) {
  const SelectiveScanProblem problem{ElementType::float32, 1, 140, 20, 16, 3, {0, 1}, 0.5f};
  const int64_t E = problem.channels, N = problem.states, R = problem.rank, token = 70, channel = 7;
  for (float special : {std::nanf(""), HUGE_VALF, -HUGE_VALF, 1e20f}) {
    for (int input = 0; input < 7; ++input) {
      SCOPED_TRACE("input " + std::to_string(input) + " is " + std::to_string(special));
      SelectiveScanCase c(problem, seed);
      if (input == 0) c.u.set(token * E + channel, special);
      if (input == 1) c.xz.set(token * 2 * E + E + channel, special);
      if (input == 2) c.dt_bc.set(token * (R + 2 * N) + 1, special);          // of the low rank
      if (input == 3) c.dt_bc.set(token * (R + 2 * N) + R + 1, special);      // of B
      if (input == 4) c.dt_bc.set(token * (R + 2 * N) + R + N + 1, special);  // of C
      if (input == 5) c.A[static_cast<size_t>(channel * N + 2)] = special;
      if (input == 6) c.D[static_cast<size_t>(channel)] = special;
      expect_agreement(c);
    }
  }
}

TEST_F(Device, ConvolutionAgreesForEveryTypeAndSize) {
  for (ElementType type : kElementTypes) {
    for (int64_t width = 1; width <= 5; ++width) {
      for (int64_t channels : {1, 13, 32, 65, 384}) {
        for (int64_t tokens : {1, 2, 3, 16, 31, 33, 197}) {
          expect_agreement(Conv1dCase({type, tokens < 100 ? 3 : 1, tokens, channels, width, {0, 1}}, seed));
        }
      }
    }
    expect_agreement(Conv1dCase({type, 1, 6085, 24, 4, {0, 1}}, seed));
    expect_agreement(Conv1dCase({type, 1, 40, 17, 50, {0, 1}}, seed));  // a window longer than the sequence
  }
}

TEST_F(Device, ConvolutionTakesRowsOfAnyLengthWithAndWithoutSilu) {
  for (ElementType type : kElementTypes) {
    for (int64_t width : {3, 4}) {
      for (int64_t more : {0, 1, 4, 40}) {
        for (int64_t silu : {0, 1}) {
          expect_agreement(Conv1dCase(causal_problem(type, 2, 37, 64, width, {0, 1}, 64 + more, silu), seed));
        }
      }
    }
  }
}

TEST_F(Device, ConvolutionTakesAnyDirections) {
  const std::vector<std::vector<int64_t>> patterns = {{0}, {1}, {0, 0}, {1, 0}, {1, 1}, {0, 1, 1}, {1, 0, 1, 0}};
  for (const auto& reverse : patterns)
    expect_agreement(Conv1dCase({ElementType::float16, 2, 37, 20, 4, reverse}, seed));
}

TEST_F(Device, ConvolutionPassesNanAndInfinityOnAsTheReferenceDoes) {
  for (float special : {std::nanf(""), HUGE_VALF, -HUGE_VALF, 3e38f}) {
    Conv1dCase c({ElementType::float32, 1, 40, 20, 4, {0, 1}}, seed);
    c.x.set(20 * 40 + 5, special);
    c.x.set(39 * 40 + 19, special);
    expect_agreement(c);
  }
}

TEST_F(Device, AnEmptyTensorIsNoWork) {
  for (auto [batch, tokens] : {std::pair<int64_t, int64_t>{0, 5}, {2, 0}}) {
    expect_agreement(SelectiveScanCase({ElementType::float16, batch, tokens, 20, 16, 3, {0, 1}, 0.5f}, seed));
    expect_agreement(SelectiveScanCase(problem_of_groups(ElementType::float16, batch, tokens, 20, 1, 0, {0, 1}), seed));
    expect_agreement(Conv1dCase({ElementType::float16, batch, tokens, 20, 4, {0, 1}}, seed));
  }
}

TEST_F(Device, RunsInsideAGraphThatIsCaptured) {
  for (const SelectiveScanProblem& problem :
       {SelectiveScanProblem{ElementType::float16, 2, 197, 384, 16, 12, {0, 1}, 0.5f},
        problem_of_groups(ElementType::float16, 2, 197, 96, 1, 6, {0, 1, 0, 1})}) {
    const SelectiveScanCase scan(problem, seed);
    for (const SelectiveScanCudaPlan& plan : plans_of(scan.problem)) {
      SCOPED_TRACE(plan.to_string());
      expect_the_same_from_a_graph(SelectiveScanOnDevice(scan, plan), scan.y);
    }
  }
  const Conv1dCase convolution({ElementType::float16, 2, 197, 384, 4, {0, 1}}, seed);
  expect_the_same_from_a_graph(Conv1dOnDevice(convolution), convolution.u);
}

}  // namespace
}  // namespace vimdeploy::testing
