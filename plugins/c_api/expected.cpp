// What is expected of the CUDA kernels on any device: host code, in libraries that were built without CUDA's compiler,
// too.

#include <algorithm>
#include <cstring>
#include <string>
#include <type_traits>

#include "c_api/call.h"
#include "c_api/vimdeploy.h"
#include "scan/cuda/time_model.h"
#include "support/export.h"

namespace vimdeploy::c_api {
namespace {

// Any scan or device that could be; sums and products of the sizes that are let through fit into 64 bits.
constexpr int64_t kMostOfAFact = int64_t{1} << 40;

Status read_facts(const int64_t* facts, CudaFacts& device) {
  int64_t* const members[] = {&device.multiprocessors,        &device.shared_bytes_per_multiprocessor,
                              &device.shared_bytes_per_block, &device.compute_capability,
                              &device.largest_cluster,        &device.clock_khz,
                              &device.memory_mb_per_s,        &device.cache_bytes};
  static_assert(sizeof members / sizeof *members == sizeof device / sizeof(int64_t));
  for (int64_t* member : members) {
    if (*facts < 1 || *facts > kMostOfAFact) return Status::error("a device's fact is " + std::to_string(*facts));
    *member = *facts++;
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
    return Status::error(std::string(name) + ": type is " + std::to_string(type));
  }
  problem.type = kElementTypes[type];
  if (sizes[1] < 1 || sizes[1] > kMostDirections) {
    return Status::error(std::string(name) + ": it has " + std::to_string(sizes[1]) + " directions or groups");
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
