// What is expected of the CUDA kernels on any device: host code, in libraries that were built without CUDA's compiler,
// too.

#include <algorithm>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

#include "c_api/call.h"
#include "c_api/vimdeploy.h"
#include "scan/cuda/time_model.h"
#include "support/export.h"

namespace vimdeploy::c_api {
namespace {

// Any scan or device that could be; sums and products of the sizes that are let through fit into 64 bits.
constexpr int64_t kMostOfAFact = int64_t{1} << 40;

Status read_facts(const int64_t* facts, CudaFacts& device) {
  const std::pair<const char*, int64_t*> members[] = {
      {"multiprocessors", &device.multiprocessors},
      {"shared_bytes_per_multiprocessor", &device.shared_bytes_per_multiprocessor},
      {"shared_bytes_per_block", &device.shared_bytes_per_block},
      {"compute_capability", &device.compute_capability},
      {"largest_cluster", &device.largest_cluster},
      {"clock_khz", &device.clock_khz},
      {"memory_mb_per_s", &device.memory_mb_per_s},
      {"cache_bytes", &device.cache_bytes}};
  static_assert(std::size(members) == sizeof device / sizeof(int64_t));
  for (const auto& [name, member] : members) {
    *member = *facts++;
    if (*member >= 1 && *member <= kMostOfAFact) continue;
    return Status::error(std::string("a device's ") + name + " is " + std::to_string(*member) + ", wanted 1 to " +
                         std::to_string(kMostOfAFact));
  }
  return {};
}

Status read_problem(const char* name, int type, const int64_t* sizes, SelectiveScanProblem& problem) {
  bool is_scan = false;
  for_each_operator([&](auto op) {
    using Operator = decltype(op);
    if constexpr (std::is_same_v<typename Operator::Problem, SelectiveScanProblem>) {
      if (std::strcmp(name, Operator::kName) != 0) return;
      problem = Operator::problem();
      is_scan = true;
    }
  });
  if (!is_scan) return Status::error("there is no scan " + std::string(name));
  if (type < 0 || type >= static_cast<int>(std::size(kElementTypes))) {
    return Status::error(std::string(name) + ": type is " + std::to_string(type) +
                         ", wanted 0 (float32), 1 (float16) or 2 (bfloat16)");
  }
  problem.type = kElementTypes[type];
  if (sizes[1] < 1 || sizes[1] > kMostDirections) {
    return Status::error(std::string(name) + ": K is " + std::to_string(sizes[1]) + ", wanted 1 to " +
                         std::to_string(kMostDirections));
  }
  problem.reverse.assign(static_cast<size_t>(sizes[1]), 0);
  problem.batch = sizes[0], problem.tokens = sizes[2], problem.channels = sizes[3], problem.states = sizes[4],
  problem.rank = sizes[5];
  if (Status s = check(problem); !s.ok()) return s;
  double elements = 1;
  for (int size = 0; size < 4; ++size) elements *= static_cast<double>(std::max<int64_t>(1, sizes[size]));
  if (elements > kMostElements) return Status::error(std::string(name) + ": u is larger than any memory");
  return {};
}

}  // namespace
}  // namespace vimdeploy::c_api

using namespace vimdeploy;

VIMDEPLOY_EXPORT const char* VimdeployExpectedScan(const char* name, int type, const int64_t sizes[6],
                                                   const int64_t facts[8], double* us, char* plan, size_t plan_bytes) {
  return c_api::message_of([&]() -> Status {
    if (name == nullptr || sizes == nullptr || facts == nullptr || us == nullptr || plan == nullptr || plan_bytes < 1) {
      return Status::error("an argument is NULL or empty");
    }
    CudaFacts device;
    if (Status s = c_api::read_facts(facts, device); !s.ok()) return s;
    SelectiveScanProblem problem;
    if (Status s = c_api::read_problem(name, type, sizes, problem); !s.ok()) return s;
    if (Status s = check(problem, device); !s.ok()) return s;
    const SelectiveScanCudaPlan chosen = cuda_plan_of(problem, device);
    *us = cuda::TimeModel(problem, device).us(chosen);
    const std::string words = chosen.to_string().substr(0, plan_bytes - 1);
    std::memcpy(plan, words.c_str(), words.size() + 1);
    return {};
  });
}
