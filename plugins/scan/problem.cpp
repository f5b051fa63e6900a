#include "scan/problem.h"

namespace vimdeploy {
namespace {

constexpr int64_t kMost = int64_t{1} << 40;  // twice a size, and the sum of two, are then whole numbers that fit

Status check_at_least(const char* op, const char* what, int64_t found, int64_t wanted) {
  if (found > kMost) {
    return Status::error(std::string(op) + ": " + what + " is " + std::to_string(found) + ", wanted at most " +
                         std::to_string(kMost));
  }
  if (found >= wanted) return {};
  return Status::error(std::string(op) + ": " + what + " is " + std::to_string(found) + ", wanted at least " +
                       std::to_string(wanted));
}

}  // namespace

Status check_reverse(const char* op, const std::vector<int64_t>& reverse) {
  if (reverse.empty()) {
    return Status::error(std::string(op) + ": attribute reverse is empty, wanted one flag (0 or 1) per direction");
  }
  for (size_t k = 0; k < reverse.size(); ++k) {
    if (reverse[k] != 0 && reverse[k] != 1) {
      return Status::error(std::string(op) + ": attribute reverse[" + std::to_string(k) + "] is " +
                           std::to_string(reverse[k]) + ", wanted 0 or 1");
    }
  }
  return {};
}

Status check(const Conv1dProblem& problem) {
  const char* op = kConv1dName;
  if (Status s = check_reverse(op, problem.reverse); !s.ok()) return s;
  if (Status s = check_at_least(op, "B (batch)", problem.batch, 0); !s.ok()) return s;
  if (Status s = check_at_least(op, "L (tokens)", problem.tokens, 0); !s.ok()) return s;
  if (Status s = check_at_least(op, "E (channels)", problem.channels, 1); !s.ok()) return s;
  return check_at_least(op, "W (width)", problem.width, 1);
}

Status check(const SelectiveScanProblem& problem) {
  const char* op = kSelectiveScanName;
  if (Status s = check_reverse(op, problem.reverse); !s.ok()) return s;
  if (Status s = check_at_least(op, "B (batch)", problem.batch, 0); !s.ok()) return s;
  if (Status s = check_at_least(op, "L (tokens)", problem.tokens, 0); !s.ok()) return s;
  if (Status s = check_at_least(op, "E (channels)", problem.channels, 1); !s.ok()) return s;
  if (Status s = check_at_least(op, "N (states)", problem.states, 1); !s.ok()) return s;
  return check_at_least(op, "R (rank)", problem.rank, 1);
}

}  // namespace vimdeploy
