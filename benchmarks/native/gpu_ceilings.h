// Kernels that keep one kind of unit busy, to measure how much of it a device has.

#pragma once

#include <cstdint>

#include "support/status.h"

struct CUstream_st;  // cudaStream_t

namespace vimdeploy::benchmarks {

// Each block of 256 threads reads and writes its 256 numbers of `values`; `operations` receives how many exp2, or
// multiply-adds, all blocks compute.
Status run_exp2(int blocks, float* values, int64_t& operations, CUstream_st* stream);
Status run_fma(int blocks, float* values, int64_t& operations, CUstream_st* stream);

}  // namespace vimdeploy::benchmarks
