// The threads of a block on the device, as the kernels' text sees them.

#pragma once

namespace vimdeploy::cuda {

// Each thread runs its own share of a phase, with its own registers.
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
