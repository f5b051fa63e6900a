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

}  // namespace vimdeploy::cuda
