#include "gpu_ceilings.h"

#include <string>

namespace vimdeploy::benchmarks {
namespace {

constexpr int kThreads = 256;
constexpr int kChains = 8;  // independent dependency chains, to hide latency
constexpr int kSteps = 1024;

// 2^-x: repeated, it neither grows nor vanishes; the negation is free.
struct Exp2 {
  static __device__ float step(float x) {
    float y;
    asm volatile("{ .reg .f32 n; neg.f32 n, %1; ex2.approx.ftz.f32 %0, n; }" : "=f"(y) : "f"(x));
    return y;
  }
};

struct Fma {
  static __device__ float step(float x) {
    float y;
    asm volatile("fma.rn.f32 %0, %1, %2, %2;" : "=f"(y) : "f"(x), "f"(0.5f));
    return y;
  }
};

template <typename Operation>
__global__ void __launch_bounds__(kThreads) repeat(float* values) {
  float* own = values + blockIdx.x * kThreads + threadIdx.x;
  float chains[kChains];
  for (int i = 0; i < kChains; ++i) chains[i] = *own + 0.01f * static_cast<float>(i);
#pragma unroll 16
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < kChains; ++i) chains[i] = Operation::step(chains[i]);
  }
  float sum = 0.0f;
  for (int i = 0; i < kChains; ++i) sum += chains[i];
  *own = sum / kChains;
}

// 16 bytes of shared memory that all lanes of a warp read at once, as the scan reads its rows.
__global__ void __launch_bounds__(kThreads) repeat_shared_loads(float* values) {
  __shared__ float4 rows[kThreads / 4];
  float* own = values + blockIdx.x * kThreads + threadIdx.x;
  reinterpret_cast<float*>(rows)[threadIdx.x] = *own;
  __syncthreads();
  const auto first = static_cast<unsigned>(__cvta_generic_to_shared(rows));
  unsigned sum = 0;
#pragma unroll 8
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < kChains; ++i) {
      const unsigned address = first + (step % 8 * kChains + i) * static_cast<unsigned>(sizeof(float4));
      unsigned x, y, z, w;  // used, and read as volatile: else ptxas drops the loads
      asm volatile("ld.volatile.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(x), "=r"(y), "=r"(z), "=r"(w)
                   : "r"(address));
      sum ^= x ^ y ^ z ^ w;
    }
  }
  *own = __uint_as_float(sum & 0x7fffff);
}

Status status_of_launch() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? Status() : Status::error(std::string("A launch failed: ") + cudaGetErrorString(error));
}

template <typename Operation>
Status run(int blocks, float* values, int64_t& operations, cudaStream_t stream) {
  operations = int64_t{blocks} * kThreads * kChains * kSteps;
  repeat<Operation><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(values);
  return status_of_launch();
}

}  // namespace

Status run_exp2(int blocks, float* values, int64_t& operations, CUstream_st* stream) {
  return run<Exp2>(blocks, values, operations, stream);
}

Status run_fma(int blocks, float* values, int64_t& operations, CUstream_st* stream) {
  return run<Fma>(blocks, values, operations, stream);
}

Status run_shared_loads(int blocks, float* values, int64_t& operations, CUstream_st* stream) {
  operations = int64_t{blocks} * (kThreads / 32) * kChains * kSteps;
  repeat_shared_loads<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(values);
  return status_of_launch();
}

}  // namespace vimdeploy::benchmarks
