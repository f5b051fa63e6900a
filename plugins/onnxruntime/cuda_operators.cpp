// The operators on a CUDA device, queued on the session's stream.

#include "onnxruntime/custom_op.h"
#include "onnxruntime/devices.h"
#include "scan/cuda/device_scope.h"
#include "scan/cuda/operators.h"

namespace vimdeploy::onnxruntime {
namespace {

CUstream_st* stream_of(OrtKernelContext* context) {
  return static_cast<CUstream_st*>(Ort::KernelContext(context).GetGPUComputeStream());
}

class CudaDevice {
 public:
  static constexpr const char* kProvider = "CUDAExecutionProvider";

  explicit CudaDevice(const OrtKernelInfo* info) : allocator_(info) {}

  Status run(OrtKernelContext* context, const Conv1dProblem& problem, const Conv1dTensors& tensors) const {
    const CudaDeviceScope device(allocator_.device_id());
    if (!device.status().ok()) return device.status();
    return conv1d_cuda(problem, tensors, stream_of(context));
  }

  Status run(OrtKernelContext* context, const SelectiveScanProblem& problem,
             const SelectiveScanTensors& tensors) const {
    const CudaDeviceScope device(allocator_.device_id());
    if (!device.status().ok()) return device.status();
    CudaFacts facts;
    if (Status s = read_cuda_facts(facts); !s.ok()) return s;
    const SelectiveScanCudaPlan plan = cuda_plan_of(problem, facts);
    const Scratch workspace = allocator_.stream_scratch(context, plan.workspace_bytes);
    return selective_scan_cuda(problem, plan, tensors, workspace.get(), stream_of(context));
  }

 private:
  KernelAllocator allocator_;
};

}  // namespace

void add_cuda_operators(Ort::CustomOpDomain& domain) { add_all_operators<CudaDevice>(domain); }

}  // namespace vimdeploy::onnxruntime
