#include "scan/problem.h"

namespace vimdeploy {
namespace {

constexpr int64_t kMost = int64_t{1} << 40;  // twice a size, and the sum of two, are then whole numbers that fit

Status error(const char* op, const std::string& what, int64_t found, const std::string& wanted) {
  return Status::error(std::string(op) + ": " + what + " is " + std::to_string(found) + ", wanted " + wanted);
}

Status check_at_least(const char* op, const char* what, int64_t found, int64_t wanted) {
  if (found > kMost) return error(op, what, found, "at most " + std::to_string(kMost));
  if (found < wanted) return error(op, what, found, "at least " + std::to_string(wanted));
  return {};
}

Status check_flag(const char* op, const std::string& attribute, int64_t found) {
  return found == 0 || found == 1 ? Status() : error(op, "attribute " + attribute, found, "0 or 1");
}

Status check_reverse(const char* op, const std::vector<int64_t>& reverse) {
  if (reverse.empty()) {
    return Status::error(std::string(op) +
                         ": attribute reverse is empty, wanted one flag (0 or 1) per direction or group");
  }
  for (size_t k = 0; k < reverse.size(); ++k) {
    if (Status s = check_flag(op, "reverse[" + std::to_string(k) + "]", reverse[k]); !s.ok()) return s;
  }
  return {};
}

// The sizes that both problems have.
template <typename Problem>
Status check_common(const Problem& problem) {
  if (Status s = check_attributes(problem); !s.ok()) return s;
  if (Status s = check_at_least(problem.name, "B (batch)", problem.batch, 0); !s.ok()) return s;
  if (Status s = check_at_least(problem.name, "L (tokens)", problem.tokens, 0); !s.ok()) return s;
  return check_at_least(problem.name, "E (channels)", problem.channels, 1);
}

}  // namespace

Status check_attributes(const Conv1dProblem& problem) {
  if (Status s = check_reverse(problem.name, problem.reverse); !s.ok()) return s;
  return check_flag(problem.name, "silu", problem.silu);
}

Status check_attributes(const SelectiveScanProblem& problem) {
  if (Status s = check_reverse(problem.name, problem.reverse); !s.ok()) return s;
  return check_flag(problem.name, "delta_softplus", problem.delta_softplus);
}

Status check(const Conv1dProblem& problem) {
  if (Status s = check_common(problem); !s.ok()) return s;
  if (Status s = check_at_least(problem.name, "W (width)", problem.width, 1); !s.ok()) return s;
  return check_at_least(problem.name, "X (channels of x)", problem.row, problem.channels);
}

Status check(const SelectiveScanProblem& problem) {
  if (Status s = check_common(problem); !s.ok()) return s;
  if (Status s = check_at_least(problem.name, "N (states)", problem.states, 1); !s.ok()) return s;
  return check_at_least(problem.name, "R (rank)", problem.rank, 0);
}

}  // namespace vimdeploy
