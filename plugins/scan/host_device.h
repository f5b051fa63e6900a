// Marks what runs on a CUDA device and on the host alike: the text of the kernels, which tests run on a CPU.

#pragma once

#ifdef __CUDACC__
#define VIMDEPLOY_HD __host__ __device__ __forceinline__
#else
#define VIMDEPLOY_HD inline
#endif

// Before a loop over registers: their numbers must be known when the kernel is compiled.
#ifdef __CUDA_ARCH__
#define VIMDEPLOY_UNROLL _Pragma("unroll")
#else
#define VIMDEPLOY_UNROLL
#endif
