// The operators on the CPU, computed by the session's threads.

#include <thread>

#include "onnxruntime/custom_op.h"
#include "onnxruntime/devices.h"
#include "scan/cpu/operators.h"

namespace vimdeploy::onnxruntime {
namespace {

// The session's threads. `context` outlives the call that uses them.
ParallelFor parallel_for_of(OrtKernelContext* context) {
  return {context, [](void* host, size_t count, void (*task)(void*, size_t), void* user) {
            Ort::KernelContext(static_cast<OrtKernelContext*>(host)).ParallelFor(task, count, 0, user);
          }};
}

// ONNX Runtime does not say how many threads a session has; the machine's threads are an upper bound.
CpuFacts cpu_facts() {
  static const unsigned threads = std::thread::hardware_concurrency();
  return {threads == 0 ? 1 : static_cast<int64_t>(threads)};
}

class CpuDevice {
 public:
  static constexpr const char* kProvider = "CPUExecutionProvider";

  explicit CpuDevice(const OrtKernelInfo* info) : allocator_(info) {}

  Status run(OrtKernelContext* context, const Conv1dProblem& problem, const Conv1dTensors& tensors) const {
    return run_best(conv1d_kernels(), context, problem, tensors);
  }

  Status run(OrtKernelContext* context, const SelectiveScanProblem& problem,
             const SelectiveScanTensors& tensors) const {
    return run_best(selective_scan_kernels(), context, problem, tensors);
  }

 private:
  template <typename Kernels, typename Problem, typename Tensors>
  Status run_best(const Kernels& kernels, OrtKernelContext* context, const Problem& problem,
                  const Tensors& tensors) const {
    const auto plan = plan_of(problem, cpu_facts());
    const Scratch scratch = allocator_.scratch(plan.scratch_bytes);
    kernels.front().run(problem, plan, tensors, scratch.get(), parallel_for_of(context));
    return {};
  }

  KernelAllocator allocator_;
};

}  // namespace

void add_cpu_operators(Ort::CustomOpDomain& domain) { add_all_operators<CpuDevice>(domain); }

}  // namespace vimdeploy::onnxruntime
