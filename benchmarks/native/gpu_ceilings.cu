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

template <typename Operation>
Status run(int blocks, float* values, int64_t& operations, cudaStream_t stream) {
  operations = int64_t{blocks} * kThreads * kChains * kSteps;
  repeat<Operation><<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(values);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? Status() : Status::error(std::string("A launch failed: ") + cudaGetErrorString(error));
}

}  // namespace

Status run_exp2(int blocks, float* values, int64_t& operations, CUstream_st* stream) {
  return run<Exp2>(blocks, values, operations, stream);
}

Status run_fma(int blocks, float* values, int64_t& operations, CUstream_st* stream) {
  return run<Fma>(blocks, values, operations, stream);
}

}  // namespace vimdeploy::benchmarks
