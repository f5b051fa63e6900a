// Marks functions that are compiled for a CUDA device and for the host: the kernels' source, which tests run on a CPU.

#pragma once

#ifdef __CUDACC__
#define VIMDEPLOY_HD __host__ __device__ __forceinline__
#else
#define VIMDEPLOY_HD inline
#endif

// A number whose value compilers do not know: what is made from it they compute anew, and do not keep in registers from
// before a loop.
VIMDEPLOY_HD unsigned computed_anew(unsigned number) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+r"(number));
#endif
  return number;
}

// UNROLL: before a loop over an array that is kept in registers, whose indices must be compile-time constants.
// DO_NOT_UNROLL: before a rare loop, which unrolled would take registers from the others.
#ifdef __CUDA_ARCH__
#define VIMDEPLOY_UNROLL _Pragma("unroll")
#define VIMDEPLOY_DO_NOT_UNROLL _Pragma("unroll 1")
#else
#define VIMDEPLOY_UNROLL
#define VIMDEPLOY_DO_NOT_UNROLL
#endif
