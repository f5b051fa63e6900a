// The operators, each as what an adapter to a framework needs to know of it: name, tensors, attributes, and which
// problem it is. Adapters read all of it from here; a new operator is a struct here and an entry in `Operators`.

#pragma once

#include <iterator>
#include <tuple>
#include <vector>

#include "scan/problem.h"

namespace vimdeploy {

// An input or the output, as the contract states it.
struct TensorSpec {
  const char* name;
  const char* dims;
  const char* type;  // "T", or "float32" for any T

  constexpr bool is_float32() const { return type[0] == 'f'; }
};

struct BidirectionalConv1dOperator {
  using Problem = Conv1dProblem;
  static constexpr const char* kName = kBidirectionalConv1dName;
  static constexpr TensorSpec kInputs[] = {
      {"xz", "(B, L, 2E)", "T"},
      {"weight", "(K, E, W)", "T"},
      {"bias", "(K, E)", "T"},
  };
  static constexpr TensorSpec kOutput = {"u", "(K, B, L, E)", "T"};

  static Problem problem() { return {}; }

  // Calls visit(name, value) for every attribute.
  template <typename ProblemOrConst, typename Visit>
  static void visit_attributes(ProblemOrConst& problem, Visit&& visit) {
    visit("reverse", problem.reverse);
  }

  // The tensors of a problem whose sizes are known, from those of a node.
  static Conv1dTensors tensors(const Problem&, const void* const* in, void* out) { return {in[0], in[1], in[2], out}; }
};

struct BidirectionalScanOperator {
  using Problem = SelectiveScanProblem;
  static constexpr const char* kName = kBidirectionalScanName;
  static constexpr TensorSpec kInputs[] = {
      {"u", "(K, B, L, E)", "T"},      {"xz", "(B, L, 2E)", "T"},        {"dt_bc", "(K, B, L, R+2N)", "T"},
      {"dt_weight", "(K, E, R)", "T"}, {"dt_bias", "(K, E)", "float32"}, {"A", "(K, E, N)", "float32"},
      {"D", "(K, E)", "float32"},
  };
  static constexpr TensorSpec kOutput = {"y", "(B, L, E)", "T"};

  static Problem problem() { return {}; }

  template <typename ProblemOrConst, typename Visit>
  static void visit_attributes(ProblemOrConst& problem, Visit&& visit) {
    visit("reverse", problem.reverse);
    visit("scale", problem.scale);
  }

  static SelectiveScanTensors tensors(const Problem& problem, const void* const* in, void* out);
};

struct CausalConv1dOperator {
  using Problem = Conv1dProblem;
  static constexpr const char* kName = kCausalConv1dName;
  static constexpr TensorSpec kInputs[] = {
      {"x", "(B, L, X)", "T"},
      {"weight", "(K, E, W)", "T"},
      {"bias", "(K, E)", "T"},
  };
  static constexpr TensorSpec kOutput = {"u", "(K, B, L, E)", "T"};

  static Problem problem();

  template <typename ProblemOrConst, typename Visit>
  static void visit_attributes(ProblemOrConst& problem, Visit&& visit) {
    visit("reverse", problem.reverse);
    visit("silu", problem.silu);
  }

  static Conv1dTensors tensors(const Problem&, const void* const* in, void* out) { return {in[0], in[1], in[2], out}; }
};

struct SelectiveScanOperator {
  using Problem = SelectiveScanProblem;
  static constexpr const char* kName = kSelectiveScanName;
  static constexpr TensorSpec kInputs[] = {
      {"u", "(B, G, L, E)", "T"},          {"delta", "(B, G, L, E)", "T"}, {"A", "(G, E, N)", "float32"},
      {"B", "(B, G, L, N)", "T"},          {"C", "(B, G, L, N)", "T"},     {"D", "(G, E)", "float32"},
      {"delta_bias", "(G, E)", "float32"},
  };
  static constexpr TensorSpec kOutput = {"y", "(B, G, L, E)", "T"};

  static Problem problem();

  template <typename ProblemOrConst, typename Visit>
  static void visit_attributes(ProblemOrConst& problem, Visit&& visit) {
    visit("reverse", problem.reverse);
    visit("delta_softplus", problem.delta_softplus);
  }

  static SelectiveScanTensors tensors(const Problem& problem, const void* const* in, void* out);
};

struct LowRankScanOperator {
  using Problem = SelectiveScanProblem;
  static constexpr const char* kName = kLowRankScanName;
  static constexpr TensorSpec kInputs[] = {
      {"u", "(B, G, L, E)", "T"},          {"delta", "(B, G, L, R)", "T"},     {"A", "(G, E, N)", "float32"},
      {"B", "(B, G, L, N)", "T"},          {"C", "(B, G, L, N)", "T"},         {"D", "(G, E)", "float32"},
      {"delta_bias", "(G, E)", "float32"}, {"delta_weight", "(G, E, R)", "T"},
  };
  static constexpr TensorSpec kOutput = {"y", "(B, G, L, E)", "T"};

  static Problem problem();

  template <typename ProblemOrConst, typename Visit>
  static void visit_attributes(ProblemOrConst& problem, Visit&& visit) {
    SelectiveScanOperator::visit_attributes(problem, visit);
  }

  static SelectiveScanTensors tensors(const Problem& problem, const void* const* in, void* out);
};

// All of them, in the contract's order.
using Operators = std::tuple<BidirectionalConv1dOperator, BidirectionalScanOperator, CausalConv1dOperator,
                             SelectiveScanOperator, LowRankScanOperator>;

// Calls visit(Operator()) for every operator.
template <typename Visit>
void for_each_operator(Visit&& visit) {
  std::apply([&](auto... operators) { (visit(operators), ...); }, Operators());
}

}  // namespace vimdeploy
