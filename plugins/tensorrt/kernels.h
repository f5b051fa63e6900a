// What differs between the two problems for plugin.h: tactics, workspace, kernels.

#pragma once

#include <iterator>
#include <memory>
#include <optional>
#include <vector>

#include "scan/cuda/operators.h"

namespace vimdeploy::tensorrt {

// What a kernel can use besides its tensors.
struct Resources {
  void* workspace;
  CUstream_st* stream;
};

template <typename Problem>
struct Kernels;

template <>
struct Kernels<Conv1dProblem> {
  static constexpr int32_t kLastTactic = 0;

  static std::vector<int32_t> tactics(const CudaFacts&) { return {}; }

  static size_t workspace_bytes(const Conv1dProblem&, const CudaFacts&) { return 0; }

  static Status run(const Conv1dProblem& problem, const CudaFacts&, int32_t, const Conv1dTensors& tensors,
                    const Resources& use) {
    return conv1d_cuda(problem, tensors, use.stream);
  }
};

template <>
struct Kernels<SelectiveScanProblem> {
  // Tactic i is the schedule kSchedules[i - 1]; 0, TensorRT's default, leaves the choice to the plan.
  static constexpr int32_t kLastTactic = std::size(kSchedules);

  static std::optional<Schedule> schedule_of(int32_t tactic) {
    return tactic == 0 ? std::nullopt : std::optional(kSchedules[tactic - 1]);
  }

  // What a device can launch.
  static std::vector<int32_t> tactics(const CudaFacts& device) {
    std::vector<int32_t> found;
    for (int32_t tactic = 1; tactic <= kLastTactic; ++tactic) {
      if (schedule_of(tactic) != Schedule::cluster || device.largest_cluster > 1) found.push_back(tactic);
    }
    return found;
  }

  // TensorRT does not promise an aligned workspace, so the room to align it is requested too.
  static constexpr size_t kAlignment = 256;

  static size_t workspace_bytes(const SelectiveScanProblem& largest, const CudaFacts& device) {
    return workspace_bound(largest, device) + kAlignment;
  }

  static Status run(const SelectiveScanProblem& problem, const CudaFacts& built, int32_t tactic,
                    const SelectiveScanTensors& tensors, const Resources& use) {
    CudaFacts here;
    if (Status s = read_cuda_facts(here); !s.ok()) return s;
    const SelectiveScanCudaPlan plan = cuda_plan_of(problem, facts_to_plan_with(built, here), schedule_of(tactic));
    void* workspace = use.workspace;
    size_t space = plan.workspace_bytes + kAlignment;
    std::align(kAlignment, plan.workspace_bytes, workspace, space);
    return selective_scan_cuda(problem, plan, tensors, workspace, use.stream);
  }
};

}  // namespace vimdeploy::tensorrt
