// The source of the convolution's CUDA kernels, compiled for a CPU, against the reference.

#include <gtest/gtest.h>

#include <cmath>

#include "scan/reference/operators.h"
#include "scan/shapes.h"
#include "testing/compare.h"
#include "testing/cuda_blocks.h"
#include "testing/expectations.h"
#include "testing/hosts.h"
#include "testing/random_tensors.h"

namespace vimdeploy::testing {
namespace {

// Alignment of the output: to 16 bytes, as hosts allocate it, or to none.
enum class Place { aligned, odd };

void expect_agreement(const Conv1dCase& c, Place place = Place::aligned) {
  SCOPED_TRACE(describe(c.problem));
  Tensor wanted = c.u;
  conv1d_reference(c.problem, c.tensors(wanted));
  GuardedMemory memory(c.u.bytes.size() + 16);
  const auto address = reinterpret_cast<uintptr_t>(memory.data());
  unsigned char* u = memory.data() + (place == Place::aligned ? 16 - address % 16 : 0);
  const Conv1dTensors tensors{c.x.data(), c.weight.data(), c.bias.data(), u};
  with_element_type(c.problem.type, [&](auto element) { run_conv1d_threads<decltype(element)>(c.problem, tensors); });
  Tensor found = c.u;
  std::copy_n(u, found.bytes.size(), found.bytes.data());
  EXPECT_TRUE(memory.is_intact()) << "written outside of u";
  EXPECT_TRUE(is_close(found, wanted, magnitudes(c), roundings(c.problem), output_shape(c.problem)));
}

TEST(CudaConv1d, AgreesWithTheReferenceForEveryTypeAndSize) {
  for (ElementType type : kElementTypes) {
    for (int64_t width = 1; width <= 5; ++width) {
      for (int64_t channels : {1, 4, 13, 16, 65}) {
        for (int64_t tokens : {1, 2, 7, 8, 9, 16, 33, 197}) {
          expect_agreement(Conv1dCase({type, tokens < 100 ? 3 : 1, tokens, channels, width, {0, 1}}));
        }
      }
    }
  }
}

TEST(CudaConv1d, TakesRowsOfAnyLengthWithAndWithoutSilu) {
  for (ElementType type : kElementTypes) {
    for (int64_t width : {3, 4}) {
      for (int64_t channels : {1, 4, 13, 16}) {
        for (int64_t more : {0, 1, 4, 40}) {
          for (int64_t silu : {0, 1}) {
            expect_agreement(Conv1dCase(causal_problem(type, 2, 21, channels, width, {0, 1}, channels + more, silu)));
          }
        }
      }
    }
  }
}

TEST(CudaConv1d, TakesVectorsIfTheMemoryIsAligned) {
  for (ElementType type : kElementTypes) {
    const Conv1dCase c({type, 2, 21, 384, 4, {0, 1}});
    alignas(16) unsigned char memory[32];
    with_element_type(type, [&](auto element) {
      using T = decltype(element);
      const auto takes_vectors = [&](const Conv1dProblem& problem, unsigned char* u) {
        return cuda::ConvolutionArguments<T>(problem, {memory, nullptr, nullptr, u}).takes_vectors();
      };
      EXPECT_TRUE(takes_vectors(c.problem, memory));
      EXPECT_FALSE(takes_vectors(c.problem, memory + 4));
      EXPECT_FALSE(takes_vectors({type, 2, 21, 382, 4, {0, 1}}, memory));
      EXPECT_FALSE(takes_vectors({type, 2, 21, 384, 3, {0, 1}}, memory));
      EXPECT_TRUE(takes_vectors(causal_problem(type, 2, 21, 384, 4, {0}, 388), memory));
      EXPECT_FALSE(takes_vectors(causal_problem(type, 2, 21, 384, 4, {0}, 390), memory));
    });
    expect_agreement(c, Place::aligned);
    expect_agreement(c, Place::odd);
  }
}

TEST(CudaConv1d, TakesAnyDirections) {
  const std::vector<std::vector<int64_t>> patterns = {{0}, {1}, {0, 0}, {1, 0}, {1, 1}, {0, 1, 1}, {1, 0, 1, 0}};
  for (const auto& reverse : patterns) {
    for (int64_t width : {3, 4}) expect_agreement(Conv1dCase({ElementType::float32, 2, 37, 20, width, reverse}));
  }
}

TEST(CudaConv1d, TakesAWindowLongerThanTheSequenceAndTheRun) {
  for (int64_t tokens : {1, 3, 40}) expect_agreement(Conv1dCase({ElementType::float32, 1, tokens, 17, 50, {0, 1}}));
}

TEST(CudaConv1d, PassesNanInfinityAndDenormalsOnAsTheReferenceDoes) {
  for (float special : {std::nanf(""), HUGE_VALF, -HUGE_VALF, 1e-40f, 3e38f}) {
    for (int64_t width : {3, 4}) {
      Conv1dCase c({ElementType::float32, 1, 40, 20, width, {0, 1}});
      c.x.set(20 * 40 + 5, special);
      c.x.set(39 * 40 + 19, special);
      expect_agreement(c);
    }
  }
}

}  // namespace
}  // namespace vimdeploy::testing
