// Launching kernels: every launch is checked, and a failed one names its kernel.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>
#include <string>

#include "support/status.h"

namespace vimdeploy::cuda {

// A CUDA error as a sentence. CUDA's record of it is cleared, so that the host's next call does not see it.
Status status_of(cudaError_t error, const std::string& what);

// Lets `kernel` use all the shared memory that the current device can give a block; does so once per kernel and
// context, because a program may make contexts of its own.
Status allow_shared_memory(const void* kernel, const char* name);

// The same for clusters of as many blocks as the current device can launch, also those of more than the 8 that every
// device with clusters can.
Status allow_any_cluster(const void* kernel, const char* name);

// With blocks in clusters of `cluster`, of which `blocks` is a multiple.
template <typename Arguments>
Status launch(const char* name, void (*kernel)(Arguments), const Arguments& arguments, int64_t blocks, int threads,
              size_t shared_bytes, cudaStream_t stream, int cluster = 1) {
  constexpr int64_t kMaxBlocks = std::numeric_limits<int32_t>::max();
  if (blocks > kMaxBlocks) {
    return Status::error(std::string(name) + ": " + std::to_string(blocks) +
                         " blocks of threads, CUDA launches at most " + std::to_string(kMaxBlocks) +
                         "; use smaller batches");
  }
  const auto* function = reinterpret_cast<const void*>(kernel);
  if (shared_bytes > 0) {
    if (Status s = allow_shared_memory(function, name); !s.ok()) return s;
  }
  if (cluster > 1) {
    if (Status s = allow_any_cluster(function, name); !s.ok()) return s;
  }
  cudaLaunchAttribute in_clusters{};
  in_clusters.id = cudaLaunchAttributeClusterDimension;
  in_clusters.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &in_clusters;
  config.numAttrs = cluster > 1 ? 1 : 0;
  void* pointers[] = {const_cast<Arguments*>(&arguments)};
  return status_of(cudaLaunchKernelExC(&config, function, pointers), name);
}

}  // namespace vimdeploy::cuda
