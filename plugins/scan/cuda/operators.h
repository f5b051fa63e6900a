// The operators on CUDA devices, for hosts to call. Nothing here waits for the device or allocates on it: the caller
// owns the stream and the workspace, and all tensors are in device memory. `problem` has passed check().

#pragma once

#include "scan/cuda/plan.h"
#include "scan/problem.h"

struct CUstream_st;  // cudaStream_t, without CUDA's headers

namespace vimdeploy {

// Properties of the calling thread's current device; queried once per device.
Status read_cuda_facts(CudaFacts& facts);

Status conv1d_cuda(const Conv1dProblem& problem, const Conv1dTensors& tensors, CUstream_st* stream);

// `workspace` holds plan.workspace_bytes, aligned to 256 bytes.
Status selective_scan_cuda(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                           const SelectiveScanTensors& tensors, void* workspace, CUstream_st* stream);

}  // namespace vimdeploy
