#include "scan/operators.h"

namespace vimdeploy {
namespace {

const float* floats(const void* data) { return static_cast<const float*>(data); }

// The tensors of both scans of groups; those of tokens are (B, G, L, elements).
SelectiveScanTensors tensors_of_groups(const SelectiveScanProblem& problem, const void* const* in, void* out) {
  const int64_t G = problem.directions(), L = problem.tokens, E = problem.channels, N = problem.states;
  const int64_t R = problem.rank;
  const auto rows = [&](auto* data, int64_t elements) {
    return Rows<std::remove_pointer_t<decltype(data)>>{data, L * elements, G * L * elements, elements};
  };
  SelectiveScanTensors tensors{};
  tensors.u = rows(in[0], E);
  tensors.delta = rows(in[1], R == 0 ? E : R);
  tensors.A = floats(in[2]);
  tensors.B = rows(in[3], N);
  tensors.C = rows(in[4], N);
  tensors.D = floats(in[5]);
  tensors.delta_bias = floats(in[6]);
  tensors.delta_weight = R == 0 ? nullptr : in[7];
  tensors.y = rows(out, E);
  return tensors;
}

SelectiveScanProblem problem_of_groups(const char* name) {
  SelectiveScanProblem problem;
  problem.is_gated = false;
  problem.name = name;
  return problem;
}

}  // namespace

SelectiveScanTensors BidirectionalScanOperator::tensors(const Problem& problem, const void* const* in, void* out) {
  const int64_t B = problem.batch, L = problem.tokens, E = problem.channels, N = problem.states, R = problem.rank;
  const int64_t row = R + 2 * N;
  const auto after = [&](const void* data, int64_t elements) -> const void* {
    return static_cast<const char*>(data) + elements * bytes_of(problem.type);
  };
  SelectiveScanTensors tensors{};
  tensors.u = {in[0], B * L * E, L * E, E};
  tensors.z = {after(in[1], E), 0, L * 2 * E, 2 * E};
  tensors.delta = {in[2], B * L * row, L * row, row};
  tensors.B = {after(in[2], R), B * L * row, L * row, row};
  tensors.C = {after(in[2], R + N), B * L * row, L * row, row};
  tensors.delta_weight = in[3];
  tensors.delta_bias = floats(in[4]);
  tensors.A = floats(in[5]);
  tensors.D = floats(in[6]);
  tensors.y = {out, 0, L * E, E};
  return tensors;
}

Conv1dProblem CausalConv1dOperator::problem() {
  Conv1dProblem problem;
  problem.name = kName;
  return problem;
}

SelectiveScanProblem SelectiveScanOperator::problem() { return problem_of_groups(kName); }

SelectiveScanTensors SelectiveScanOperator::tensors(const Problem& problem, const void* const* in, void* out) {
  return tensors_of_groups(problem, in, out);
}

SelectiveScanProblem LowRankScanOperator::problem() { return problem_of_groups(kName); }

SelectiveScanTensors LowRankScanOperator::tensors(const Problem& problem, const void* const* in, void* out) {
  return tensors_of_groups(problem, in, out);
}

}  // namespace vimdeploy
