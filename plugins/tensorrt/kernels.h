// What differs between the two problems for plugin.h: tactics, workspace, kernels.

#pragma once

#include <memory>

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
  static constexpr int32_t kTactics = 0;

  static size_t workspace_bytes(const Conv1dProblem&, const CudaFacts&) { return 0; }

  static Status run(const Conv1dProblem& problem, const CudaFacts&, Regime, const Conv1dTensors& tensors,
                    const Resources& use) {
    return conv1d_cuda(problem, tensors, use.stream);
  }
};

template <>
struct Kernels<SelectiveScanProblem> {
  static constexpr int32_t kTactics = 2;  // the regimes' numbers; 0, TensorRT's default, is Regime::automatic
  static_assert(Regime{0} == Regime::automatic && Regime{1} == Regime::sequences && Regime{2} == Regime::chunks);

  // TensorRT does not promise an aligned workspace, so the room to align it is requested too.
  static constexpr size_t kAlignment = 256;

  static size_t workspace_bytes(const SelectiveScanProblem& largest, const CudaFacts& device) {
    return workspace_bound(largest, device) + kAlignment;
  }

  static Status run(const SelectiveScanProblem& problem, const CudaFacts& built, Regime regime,
                    const SelectiveScanTensors& tensors, const Resources& use) {
    CudaFacts here;
    if (Status s = read_cuda_facts(here); !s.ok()) return s;
    const SelectiveScanCudaPlan plan = cuda_plan_of(problem, facts_to_plan_with(built, here), regime);
    void* workspace = use.workspace;
    size_t space = plan.workspace_bytes + kAlignment;
    std::align(kAlignment, plan.workspace_bytes, workspace, space);
    return selective_scan_cuda(problem, plan, tensors, workspace, use.stream);
  }
};

}  // namespace vimdeploy::tensorrt
