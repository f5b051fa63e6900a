#include "scan/cuda/launch.h"

#include <mutex>
#include <set>
#include <utility>

namespace vimdeploy::cuda {

Status status_of(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return {};
  static_cast<void>(cudaGetLastError());
  return Status::error(what + ": CUDA says " + cudaGetErrorName(error) + ", " + cudaGetErrorString(error));
}

Status allow_shared_memory(const void* kernel, const char* name) {
  static std::mutex mutex;
  static std::set<std::pair<const void*, int>> allowed;
  int device = 0, bytes = 0;
  if (Status s = status_of(cudaGetDevice(&device), name); !s.ok()) return s;
  const std::lock_guard<std::mutex> lock(mutex);
  if (allowed.count({kernel, device})) return {};
  Status s = status_of(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), name);
  if (s.ok()) s = status_of(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), name);
  // The plan counts on all of it; the L1 cache gets what is left.
  constexpr auto kCarveout = cudaFuncAttributePreferredSharedMemoryCarveout;
  if (s.ok()) s = status_of(cudaFuncSetAttribute(kernel, kCarveout, cudaSharedmemCarveoutMaxShared), name);
  if (s.ok()) allowed.insert({kernel, device});
  return s;
}

}  // namespace vimdeploy::cuda
