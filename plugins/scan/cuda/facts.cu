#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "scan/cuda/launch.h"
#include "scan/cuda/layout.h"
#include "scan/cuda/operators.h"

namespace vimdeploy {
namespace {

// Thread blocks. No device so far takes more; an H100 takes as many.
constexpr int kLargestCluster = 16;

// Never launched: CUDA is asked about it.
__global__ void probe(const __grid_constant__ int) {}

// The blocks of the largest cluster that the device can launch of any kernel here; 1 if it knows no clusters, or if the
// library has no code for devices that do (an older device's PTX runs on a newer device).
Status read_largest_cluster(int device, const CudaFacts& facts, int64_t& largest) {
  const char* what = "asking the CUDA device for its clusters";
  largest = 1;
  int has_clusters = 0;
  if (Status s = cuda::status_of(cudaDeviceGetAttribute(&has_clusters, cudaDevAttrClusterLaunch, device), what);
      !s.ok()) {
    return s;
  }
  if (has_clusters == 0) return {};
  const auto* kernel = reinterpret_cast<const void*>(&probe);
  cudaFuncAttributes compiled{};
  if (Status s = cuda::status_of(cudaFuncGetAttributes(&compiled, kernel), what); !s.ok()) return s;
  constexpr int kFirstWithClusters = 90;
  if (compiled.ptxVersion < kFirstWithClusters) return {};
  if (Status s = cuda::allow_shared_memory(kernel, what); !s.ok()) return s;
  if (Status s = cuda::allow_any_cluster(kernel, what); !s.ok()) return s;
  // With all the shared memory each block needs a multiprocessor of its own: more of them may share one.
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(kLargestCluster);
  config.blockDim = dim3(cuda::kThreads);
  config.dynamicSmemBytes = static_cast<size_t>(facts.shared_bytes_per_block);
  int found = 0;
  if (Status s = cuda::status_of(cudaOccupancyMaxPotentialClusterSize(&found, kernel, &config), what); !s.ok()) {
    return s;
  }
  largest = std::min(found, kLargestCluster);
  return {};
}

}  // namespace

Status read_cuda_facts(CudaFacts& facts) {
  static std::mutex mutex;
  static std::map<int, CudaFacts> known;
  const char* what = "reading the CUDA device's properties";
  int device = 0;
  if (Status s = cuda::status_of(cudaGetDevice(&device), what); !s.ok()) return s;
  const std::lock_guard<std::mutex> lock(mutex);
  if (known.count(device) == 0) {
    CudaFacts found;
    int64_t major = 0, minor = 0, memory_khz = 0, bus_bits = 0;
    for (auto [attribute, value] :
         {std::pair<cudaDeviceAttr, int64_t*>{cudaDevAttrMultiProcessorCount, &found.multiprocessors},
          {cudaDevAttrMaxSharedMemoryPerMultiprocessor, &found.shared_bytes_per_multiprocessor},
          {cudaDevAttrMaxSharedMemoryPerBlockOptin, &found.shared_bytes_per_block},
          {cudaDevAttrComputeCapabilityMajor, &major},
          {cudaDevAttrComputeCapabilityMinor, &minor},
          {cudaDevAttrClockRate, &found.clock_khz},
          {cudaDevAttrL2CacheSize, &found.cache_bytes},
          {cudaDevAttrMemoryClockRate, &memory_khz},
          {cudaDevAttrGlobalMemoryBusWidth, &bus_bits}}) {
      int answer = 0;
      if (Status s = cuda::status_of(cudaDeviceGetAttribute(&answer, attribute, device), what); !s.ok()) return s;
      if (answer > 0) *value = answer;  // some devices do not know their clocks
    }
    found.compute_capability = 10 * major + minor;
    if (const int64_t mb_per_s = 2 * memory_khz * bus_bits / 8 / 1000; mb_per_s > 0) found.memory_mb_per_s = mb_per_s;
    if (Status s = read_largest_cluster(device, found, found.largest_cluster); !s.ok()) return s;
    known[device] = found;
  }
  facts = known[device];
  return {};
}

}  // namespace vimdeploy
