// A thread block on the device, as the kernels' source sees it.

#pragma once

namespace vimdeploy::cuda {

// Each thread runs a phase for itself, with its own registers; a barrier ends the phase.
template <typename Registers>
struct DeviceTeam {
  Registers registers;

  template <typename Phase>
  __device__ __forceinline__ void each(Phase&& phase) {
    phase(static_cast<int>(threadIdx.x), registers);
    __syncthreads();
  }
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
// A thread block of a cluster, see cluster.h.
template <typename Registers>
struct ClusterTeam : DeviceTeam<Registers> {
  template <typename Phase>
  __device__ __forceinline__ void each_in_cluster(Phase&& phase) {
    phase(static_cast<int>(threadIdx.x), this->registers);
    __cluster_barrier_arrive();
    __cluster_barrier_wait();
  }

  __device__ __forceinline__ float* in_block(int rank, float* address) const {
    return static_cast<float*>(__cluster_map_shared_rank(address, static_cast<unsigned>(rank)));
  }
};
#endif

}  // namespace vimdeploy::cuda
