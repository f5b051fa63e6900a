#include <map>
#include <mutex>
#include <utility>

#include "scan/cuda/operators.h"
#include "scan/cuda/launch.h"

namespace vimdeploy {

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
