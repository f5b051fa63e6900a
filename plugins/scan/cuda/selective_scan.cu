// The scans on CUDA devices: the __global__ functions around output.h, chunks.h and cluster.h, and their launches.

#include "scan/cuda/operators.h"
#include "scan/cuda/cluster.h"
#include "scan/cuda/device_team.h"
#include "scan/cuda/launch.h"

namespace vimdeploy {
namespace cuda {
namespace {

template <typename Kind>
constexpr int kOutputThreads = kThreadGroups * Kind::kGroupThreads;
template <typename Kind, bool is_cluster>
constexpr int kResidentThreads = resident_threads(Kind::kStates, Kind::kChannels, is_cluster);

template <typename Kind>
__global__ void __launch_bounds__(kOutputThreads<Kind>, kResidentThreads<Kind, false> / kOutputThreads<Kind>)
    selective_scan_output(const __grid_constant__ ScanArguments arguments) {
  extern __shared__ float4 shared[];
  DeviceTeam<OutputRegisters<Kind>> team;
  output_block<Kind>(team, arguments, blockIdx.x, reinterpret_cast<float*>(shared));
}

// Clusters came with compute capability 9.0; code for an older device is never launched, see facts.cu.
template <typename Kind>
__global__ void __launch_bounds__(kOutputThreads<Kind>, kResidentThreads<Kind, true> / kOutputThreads<Kind>)
    selective_scan_cluster([[maybe_unused]] const __grid_constant__ ScanArguments arguments) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ float4 shared[];
  ClusterTeam<OutputRegisters<Kind>> team;
  cluster_block<Kind>(team, arguments, blockIdx.x, reinterpret_cast<float*>(shared));
#else
  __trap();
#endif
}

template <typename Kind>
__global__ void __launch_bounds__(Kind::kGroupThreads, kResidentThreads<Kind, false> / Kind::kGroupThreads)
    selective_scan_summary(const __grid_constant__ ScanArguments arguments) {
  extern __shared__ float4 shared[];
  DeviceTeam<SummaryRegisters<Kind>> team;
  summary_block<Kind>(team, arguments, blockIdx.x, reinterpret_cast<float*>(shared));
}

__global__ void __launch_bounds__(kThreads) selective_scan_carry(const __grid_constant__ ScanArguments arguments) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index < carry_threads(arguments)) carry_thread(arguments, index);
}

template <typename Kind>
Status run(Kind, const ScanArguments& arguments, const SelectiveScanCudaPlan& plan, cudaStream_t stream) {
  const int64_t blocks = output_blocks(arguments);
  const int threads = thread_groups_of(arguments.summands) * Kind::kGroupThreads;
  if constexpr (Kind::kChannels == 1) {
    if (plan.schedule == Schedule::cluster) {
      return launch("selective_scan_cluster", &selective_scan_cluster<Kind>, arguments, blocks, threads,
                    plan.shared_bytes, stream, arguments.chunks);
    }
  }
  if (plan.schedule != Schedule::sequences) {
    const size_t shared_bytes =
        static_cast<size_t>(shared_layout(1, sizeof(typename Kind::Element), arguments.rank, 0, 0).floats) *
        sizeof(float);
    if (Status s = launch("selective_scan_summary", &selective_scan_summary<Kind>, arguments, summary_blocks(arguments),
                          Kind::kGroupThreads, shared_bytes, stream);
        !s.ok()) {
      return s;
    }
  }
  if (plan.schedule == Schedule::three_launches) {
    const int64_t carry_blocks = (carry_threads(arguments) + kThreads - 1) / kThreads;
    if (Status s = launch("selective_scan_carry", &selective_scan_carry, arguments, carry_blocks, kThreads, 0, stream);
        !s.ok()) {
      return s;
    }
  }
  return launch("selective_scan_output", &selective_scan_output<Kind>, arguments, blocks, threads, plan.shared_bytes,
                stream);
}

}  // namespace
}  // namespace cuda

Status selective_scan_cuda(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                           const SelectiveScanTensors& tensors, void* workspace, CUstream_st* stream) {
  if (problem.batch == 0 || problem.tokens == 0) return {};
  CudaFacts device;
  if (Status s = read_cuda_facts(device); !s.ok()) return s;
  if (Status s = check(problem, device); !s.ok()) return s;
  Status status;
  const cuda::ScanArguments arguments(problem, plan, tensors, workspace);
  cuda::with_scan_kind(problem, cuda::channels_per_thread(problem, plan, tensors),
                       [&](auto kind) { static_cast<void>(status = cuda::run(kind, arguments, plan, stream)); });
  return status;
}

}  // namespace vimdeploy
