// A thread block on the device, as the kernels' source sees it.

#pragma once

#include <cstdint>
#include <type_traits>

#include "scan/cuda/warp_product.h"

namespace vimdeploy::cuda {

// sum += a * b, of one product of a warp. `volatile` keeps compilers from moving it to where some threads do not come.
template <typename T>
__device__ __forceinline__ void add_product_of_warp(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&sum)[4]) {
#if __CUDA_ARCH__ >= 800
#define VIMDEPLOY_MMA(type)                                             \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type   \
               ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "    \
               "{%0, %1, %2, %3};"                                      \
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]) \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
  if constexpr (std::is_same_v<T, Float16>) {
    VIMDEPLOY_MMA("f16");
  } else {
    VIMDEPLOY_MMA("bf16");
  }
#undef VIMDEPLOY_MMA
#else
  if constexpr (std::is_same_v<T, Float16>) {
    for (int half = 0; half < 2; ++half) {
      asm volatile(
          "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
          : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
          : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
    }
  } else {
    constexpr unsigned kAll = 0xffffffffu;
    add_product<T>(
        static_cast<int>(threadIdx.x % kWarp), [&](int lane, int i) { return __shfl_sync(kAll, a[i], lane); },
        [&](int lane, int i) { return __shfl_sync(kAll, b[i], lane); }, sum);
  }
#endif
}

// The warp of a thread: see output.h.
template <typename Registers>
struct DeviceWarp {
  Registers& registers;

  __device__ __forceinline__ int first_thread() const { return static_cast<int>(threadIdx.x / kWarp * kWarp); }

  template <typename Phase>
  __device__ __forceinline__ void each(Phase&& phase) {
    phase(static_cast<int>(threadIdx.x), registers);
    __syncwarp();
  }

  template <typename T, typename ProductOf>
  __device__ __forceinline__ void multiply(ProductOf&& product_of) {
    auto& product = product_of(registers);
#pragma unroll
    for (int i = 0; i < product.kTiles; ++i) add_product_of_warp<T>(product.a[i], product.b, product.sum[i]);
  }
};

// Each thread runs a phase for itself, with its own registers; a barrier ends the phase.
template <typename Registers>
struct DeviceTeam {
  Registers registers;

  template <typename Phase>
  __device__ __forceinline__ void each(Phase&& phase) {
    phase(static_cast<int>(threadIdx.x), registers);
    __syncthreads();
  }

  template <typename Body>
  __device__ __forceinline__ void each_warp(Body&& body) {
    DeviceWarp<Registers> warp{registers};
    body(warp);
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
