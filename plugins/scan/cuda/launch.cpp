#include "scan/cuda/launch.h"

#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "scan/cuda.h"

namespace vimdeploy {
namespace cuda {

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
  // The plan counts on all of it; the first-level cache can do with the rest.
  constexpr auto kCarveout = cudaFuncAttributePreferredSharedMemoryCarveout;
  if (s.ok()) s = status_of(cudaFuncSetAttribute(kernel, kCarveout, cudaSharedmemCarveoutMaxShared), name);
  if (s.ok()) allowed.insert({kernel, device});
  return s;
}

}  // namespace cuda

Status read_cuda_facts(CudaFacts& facts) {
  static std::mutex mutex;
  static std::map<int, CudaFacts> known;
  const char* what = "reading the CUDA device's properties";
  int device = 0;
  if (Status s = cuda::status_of(cudaGetDevice(&device), what); !s.ok()) return s;
  const std::lock_guard<std::mutex> lock(mutex);
  if (known.count(device) == 0) {
    CudaFacts found;
    for (auto [attribute, value] :
         {std::pair<cudaDeviceAttr, int64_t*>{cudaDevAttrMultiProcessorCount, &found.multiprocessors},
          {cudaDevAttrMaxSharedMemoryPerMultiprocessor, &found.shared_bytes_per_multiprocessor},
          {cudaDevAttrMaxSharedMemoryPerBlockOptin, &found.shared_bytes_per_block}}) {
      int answer = 0;
      if (Status s = cuda::status_of(cudaDeviceGetAttribute(&answer, attribute, device), what); !s.ok()) return s;
      *value = answer;
    }
    known[device] = found;
  }
  facts = known[device];
  return {};
}

}  // namespace vimdeploy
