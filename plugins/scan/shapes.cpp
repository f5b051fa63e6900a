#include "scan/shapes.h"

namespace vimdeploy {
namespace {

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

// An input: its name and dimensions in the contract, and the shape that was found.
struct Input {
  const char* op;
  const char* name;
  const char* dims;
  size_t rank;
  const Shape& found;

  Status error(const std::string& wanted) const {
    return Status::error(std::string(op) + ": input " + name + " has shape " + to_string(found) + ", wanted " + dims +
                         wanted);
  }

  Status check_rank() const { return found.size() == rank ? Status() : error(""); }
  Status check_shape(const Shape& wanted) const {
    return found == wanted ? Status() : error(" = " + to_string(wanted));
  }
};

Status check_count(const char* op, size_t found, size_t wanted) {
  if (found == wanted) return {};
  return Status::error(std::string(op) + ": found " + std::to_string(found) + " inputs, wanted " +
                       std::to_string(wanted));
}

}  // namespace

Status sizes_from_shapes(const std::vector<Shape>& inputs, Conv1dProblem& problem) {
  const char* op = kConv1dName;
  if (Status s = check_count(op, inputs.size(), 3); !s.ok()) return s;
  const Input xz{op, "xz", "(B, L, 2E)", 3, inputs[0]};
  const Input weight{op, "weight", "(K, E, W)", 3, inputs[1]};
  const Input bias{op, "bias", "(K, E)", 2, inputs[2]};

  if (Status s = xz.check_rank(); !s.ok()) return s;
  if (Status s = weight.check_rank(); !s.ok()) return s;
  if (xz.found[2] % 2 != 0) return xz.error(" with an even last size");
  problem.batch = xz.found[0];
  problem.tokens = xz.found[1];
  problem.channels = xz.found[2] / 2;
  problem.width = weight.found[2];
  if (Status s = check(problem); !s.ok()) return s;

  if (Status s = weight.check_shape({problem.directions(), problem.channels, problem.width}); !s.ok()) return s;
  return bias.check_shape({problem.directions(), problem.channels});
}

Status sizes_from_shapes(const std::vector<Shape>& inputs, SelectiveScanProblem& problem) {
  const char* op = kSelectiveScanName;
  if (Status s = check_count(op, inputs.size(), 7); !s.ok()) return s;
  const Input u{op, "u", "(K, B, L, E)", 4, inputs[0]};
  const Input xz{op, "xz", "(B, L, 2E)", 3, inputs[1]};
  const Input dt_bc{op, "dt_bc", "(K, B, L, R+2N)", 4, inputs[2]};
  const Input dt_weight{op, "dt_weight", "(K, E, R)", 3, inputs[3]};
  const Input dt_bias{op, "dt_bias", "(K, E)", 2, inputs[4]};
  const Input A{op, "A", "(K, E, N)", 3, inputs[5]};
  const Input D{op, "D", "(K, E)", 2, inputs[6]};

  if (Status s = u.check_rank(); !s.ok()) return s;
  if (Status s = dt_weight.check_rank(); !s.ok()) return s;
  if (Status s = A.check_rank(); !s.ok()) return s;
  problem.batch = u.found[1];
  problem.tokens = u.found[2];
  problem.channels = u.found[3];
  problem.rank = dt_weight.found[2];
  problem.states = A.found[2];
  if (Status s = check(problem); !s.ok()) return s;

  const int64_t K = problem.directions(), B = problem.batch, L = problem.tokens, E = problem.channels;
  const int64_t N = problem.states, R = problem.rank;
  if (Status s = u.check_shape({K, B, L, E}); !s.ok()) return s;
  if (Status s = xz.check_shape({B, L, 2 * E}); !s.ok()) return s;
  if (Status s = dt_bc.check_shape({K, B, L, R + 2 * N}); !s.ok()) return s;
  if (Status s = dt_weight.check_shape({K, E, R}); !s.ok()) return s;
  if (Status s = dt_bias.check_shape({K, E}); !s.ok()) return s;
  if (Status s = A.check_shape({K, E, N}); !s.ok()) return s;
  return D.check_shape({K, E});
}

Shape output_shape(const Conv1dProblem& problem) {
  return {problem.directions(), problem.batch, problem.tokens, problem.channels};
}

Shape output_shape(const SelectiveScanProblem& problem) { return {problem.batch, problem.tokens, problem.channels}; }

}  // namespace vimdeploy
