// Marks what runs on a CUDA device and on the host alike: the text of the kernels, which tests run on a CPU.

#pragma once

#ifdef __CUDACC__
#define VIMDEPLOY_HD __host__ __device__ __forceinline__
#else
#define VIMDEPLOY_HD inline
#endif

// Before a loop over registers, whose numbers must be known when the kernel is compiled; and before one that is too
// rare to take registers from the others.
#ifdef __CUDA_ARCH__
#define VIMDEPLOY_UNROLL _Pragma("unroll")
#define VIMDEPLOY_DO_NOT_UNROLL _Pragma("unroll 1")
#else
#define VIMDEPLOY_UNROLL
#define VIMDEPLOY_DO_NOT_UNROLL
#endif
