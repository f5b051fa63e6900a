#include "scan/operators.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "scan/shapes.h"

namespace vimdeploy {
namespace {

// All sizes are different, but for the directions and groups.
Sizes sizes() {
  Sizes sizes;
  int64_t size = 3;
  for (char letter : std::string("BLENRWX")) sizes.set(letter, size++);
  sizes.set('K', 2);
  sizes.set('G', 2);
  return sizes;
}

template <typename Operator>
typename Operator::Problem problem_of() {
  auto problem = Operator::problem();
  problem.reverse = {0, 1};
  std::vector<Shape> shapes;
  for (const TensorSpec& input : Operator::kInputs) shapes.push_back(shape_of(input, sizes()));
  EXPECT_EQ(sizes_from_shapes<Operator>(shapes, problem).message(), "");
  return problem;
}

TEST(Operators, AreFiveInTheContractsOrder) {
  std::vector<std::string> names;
  for_each_operator([&](auto op) { names.emplace_back(decltype(op)::kName); });
  EXPECT_EQ(names, (std::vector<std::string>{"BidirectionalConv1d", "BidirectionalSelectiveScan", "CausalConv1d",
                                             "SelectiveScan", "LowRankSelectiveScan"}));
}

TEST(Operators, TheOutputsSizesAreAxesOfTheInputs) {
  for_each_operator([](auto op) {
    using Operator = decltype(op);
    Shape found;
    for (const InputAxis& from : output_axes<Operator>()) {
      found.push_back(shape_of(Operator::kInputs[from.input], sizes())[from.axis]);
    }
    EXPECT_EQ(found, shape_of(Operator::kOutput, sizes())) << Operator::kName;
    EXPECT_EQ(found, output_shape(problem_of<Operator>())) << Operator::kName;
  });
}

TEST(Operators, TheirProblemsBearTheirNames) {
  for_each_operator([](auto op) { EXPECT_STREQ(op.problem().name, op.kName); });
}

// The last row of every tensor ends at the tensor's end.
TEST(Operators, RowsCoverTheirTensors) {
  for_each_operator([](auto op) {
    using Operator = decltype(op);
    if constexpr (std::is_same_v<typename Operator::Problem, SelectiveScanProblem>) {
      std::vector<std::vector<float>> memory;
      std::vector<const void*> in;
      const auto allocate = [&](const TensorSpec& spec) {
        size_t count = 1;
        for (int64_t size : shape_of(spec, sizes())) count *= static_cast<size_t>(size);
        memory.emplace_back(count);
      };
      memory.reserve(std::size(Operator::kInputs) + 1);
      for (const TensorSpec& input : Operator::kInputs) {
        allocate(input);
        in.push_back(memory.back().data());
      }
      allocate(Operator::kOutput);
      const auto problem = problem_of<Operator>();
      const auto tensors = Operator::tensors(problem, in.data(), memory.back().data());
      const int64_t k = problem.directions() - 1, b = problem.batch - 1, l = problem.tokens - 1;
      const auto end_of = [&](const char* name) {
        for (size_t i = 0; i < std::size(Operator::kInputs); ++i) {
          if (Operator::kInputs[i].name == std::string(name)) return memory[i].data() + memory[i].size();
        }
        return memory.back().data() + memory.back().size();
      };
      EXPECT_EQ(tensors.u.template at<float>(k, b, l) + problem.channels, end_of("u")) << op.kName;
      EXPECT_EQ(tensors.y.template at<float>(k, b, l) + problem.channels, end_of("y")) << op.kName;
      EXPECT_EQ(tensors.C.template at<float>(k, b, l) + problem.states, end_of(problem.is_gated ? "dt_bc" : "C"));
      if (problem.is_gated) {
        EXPECT_EQ(tensors.z.template at<float>(k, b, l) + problem.channels, end_of("xz"));
        EXPECT_EQ(tensors.delta.template at<float>(k, b, l) + problem.rank, tensors.B.template at<float>(k, b, l));
        EXPECT_EQ(tensors.B.template at<float>(k, b, l) + problem.states, tensors.C.template at<float>(k, b, l));
      } else {
        EXPECT_EQ(tensors.B.template at<float>(k, b, l) + problem.states, end_of("B"));
        EXPECT_EQ(tensors.delta.template at<float>(k, b, l) + (problem.rank ? problem.rank : problem.channels),
                  end_of("delta"));
      }
    }
  });
}

}  // namespace
}  // namespace vimdeploy
