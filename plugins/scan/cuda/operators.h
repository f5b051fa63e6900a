// The operators on CUDA devices. Nothing here waits for the device or allocates on it: the caller owns the stream and
// the workspace, and all pointers of the tensors are the device's. `problem` has passed check().

#pragma once

#include "scan/cuda/plan.h"
#include "scan/problem.h"

struct CUstream_st;  // cudaStream_t, without CUDA's headers

namespace vimdeploy {

// Of the calling thread's current device; asked once a device and kept.
Status read_cuda_facts(CudaFacts& facts);

Status conv1d_cuda(const Conv1dProblem& problem, const Conv1dTensors& tensors, CUstream_st* stream);

// `workspace` holds plan.workspace_bytes, aligned to 256 bytes.
Status selective_scan_cuda(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                           const SelectiveScanTensors& tensors, void* workspace, CUstream_st* stream);

}  // namespace vimdeploy
