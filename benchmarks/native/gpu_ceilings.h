// Kernels that saturate one kind of execution unit, to measure its throughput.

#pragma once

#include <cstdint>

#include "support/status.h"

struct CUstream_st;  // cudaStream_t

namespace vimdeploy::benchmarks {

// Each block of 256 threads reads and writes its 256 numbers of `values`; `operations` receives the number of exp2, or
// of multiply-adds, that all blocks compute.
Status run_exp2(int blocks, float* values, int64_t& operations, CUstream_st* stream);
Status run_fma(int blocks, float* values, int64_t& operations, CUstream_st* stream);

// The same for loads of 16 bytes from shared memory, of one address for all lanes; `operations` counts those of a warp.
Status run_shared_loads(int blocks, float* values, int64_t& operations, CUstream_st* stream);

}  // namespace vimdeploy::benchmarks
