// The C functions on CUDA devices.

#include "c_api/call.h"
#include "c_api/vimdeploy.h"
#include "scan/cuda/device_scope.h"
#include "scan/cuda/launch.h"
#include "scan/cuda/operators.h"
#include "support/export.h"

namespace vimdeploy::c_api {
namespace {

// Memory for the work that is queued on a stream while it exists; the stream's later work may use it again.
class StreamMemory {
 public:
  StreamMemory(size_t bytes, cudaStream_t stream) : stream_(stream) {
    if (bytes > 0) status_ = cuda::status_of(cudaMallocAsync(&data_, bytes, stream), "allocating a scan's workspace");
  }
  ~StreamMemory() {
    if (data_ != nullptr) cudaFreeAsync(data_, stream_);
  }
  StreamMemory(const StreamMemory&) = delete;
  StreamMemory& operator=(const StreamMemory&) = delete;

  const Status& status() const { return status_; }
  void* data() const { return data_; }

 private:
  cudaStream_t stream_;
  void* data_ = nullptr;
  Status status_;
};

Status queue(const Conv1dProblem& problem, const Conv1dTensors& tensors, cudaStream_t stream) {
  return conv1d_cuda(problem, tensors, stream);
}

Status queue(const SelectiveScanProblem& problem, const SelectiveScanTensors& tensors, cudaStream_t stream) {
  CudaFacts facts;
  if (Status s = read_cuda_facts(facts); !s.ok()) return s;
  if (Status s = check(problem, facts); !s.ok()) return s;
  const SelectiveScanCudaPlan plan = cuda_plan_of(problem, facts);
  const StreamMemory workspace(plan.workspace_bytes, stream);
  if (!workspace.status().ok()) return workspace.status();
  return selective_scan_cuda(problem, plan, tensors, workspace.data(), stream);
}

// `problem` has the attributes but `reverse`.
template <typename Operator>
Status run(const Arguments& call, typename Operator::Problem problem, void* output, int device, void* stream) {
  if (Status s = read_call<Operator>(call, problem); !s.ok()) return s;
  const CudaDeviceScope scope(device);
  if (!scope.status().ok()) return scope.status();
  return queue(problem, Operator::tensors(problem, call.inputs, output), static_cast<cudaStream_t>(stream));
}

template <typename Operator>
Status run_scan(const Arguments& call, int delta_softplus, void* y, int device, void* stream) {
  auto problem = Operator::problem();
  problem.delta_softplus = delta_softplus;
  return run<Operator>(call, problem, y, device, stream);
}

}  // namespace
}  // namespace vimdeploy::c_api

using namespace vimdeploy;

VIMDEPLOY_EXPORT const char* VimdeploySelectiveScanCuda(int type, const int64_t sizes[6], const int64_t* reverse,
                                                        int delta_softplus, const void* const inputs[8], void* y,
                                                        float* last_state, int device, void* stream) {
  return c_api::message_of([&]() -> Status {
    if (last_state != nullptr) return Status::error("SelectiveScan: last_state must be NULL on a CUDA device");
    const c_api::Arguments call{type, "BGLENR", sizes, 'G', reverse, inputs, y};
    const auto run = sizes != nullptr && sizes[5] != 0 ? &c_api::run_scan<LowRankScanOperator>
                                                       : &c_api::run_scan<SelectiveScanOperator>;
    return run(call, delta_softplus, y, device, stream);
  });
}

VIMDEPLOY_EXPORT const char* VimdeployCausalConv1dCuda(int type, const int64_t sizes[6], const int64_t* reverse,
                                                       int silu, const void* const inputs[3], void* u, int device,
                                                       void* stream) {
  return c_api::message_of([&]() -> Status {
    auto problem = CausalConv1dOperator::problem();
    problem.silu = silu;
    const c_api::Arguments call{type, "BLXKEW", sizes, 'K', reverse, inputs, u};
    return c_api::run<CausalConv1dOperator>(call, problem, u, device, stream);
  });
}
