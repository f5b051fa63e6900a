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

namespace {

// The number of the calling thread's current context, by the driver's cuCtxGetId: unlike an address it is never used
// again, also after cudaDeviceReset.
Status current_context(unsigned long long& number, const char* name) {
  using GetId = int (*)(void* context, unsigned long long* number);
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  constexpr unsigned kSince = 12000;
#if CUDART_VERSION >= 12050
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion("cuCtxGetId", &function, kSince, cudaEnableDefault, &found);
#else
  static_cast<void>(kSince);
  const cudaError_t error = cudaGetDriverEntryPoint("cuCtxGetId", &function, cudaEnableDefault, &found);
#endif
  if (Status s = status_of(error, name); !s.ok()) return s;
  if (found != cudaDriverEntryPointSuccess || reinterpret_cast<GetId>(function)(nullptr, &number) != 0) {
    return Status::error(std::string(name) + ": the CUDA driver does not tell the current context");
  }
  return {};
}

// Sets attributes of kernels, once per kernel and context.
class OncePerContext {
 public:
  template <typename Set>
  Status operator()(const void* kernel, const char* name, Set&& set) {
    unsigned long long context = 0;
    if (Status s = current_context(context, name); !s.ok()) return s;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (done_.count({kernel, context})) return {};
    Status s = set();
    if (s.ok()) done_.insert({kernel, context});
    return s;
  }

 private:
  std::mutex mutex_;
  std::set<std::pair<const void*, unsigned long long>> done_;
};

}  // namespace

Status allow_shared_memory(const void* kernel, const char* name) {
  static OncePerContext once;
  return once(kernel, name, [&] {
    int device = 0, bytes = 0;
    Status s = status_of(cudaGetDevice(&device), name);
    if (s.ok()) s = status_of(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), name);
    if (s.ok()) s = status_of(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), name);
    // The plan counts on all of it; the L1 cache gets what is left.
    constexpr auto kCarveout = cudaFuncAttributePreferredSharedMemoryCarveout;
    if (s.ok()) s = status_of(cudaFuncSetAttribute(kernel, kCarveout, cudaSharedmemCarveoutMaxShared), name);
    return s;
  });
}

Status allow_any_cluster(const void* kernel, const char* name) {
  static OncePerContext once;
  return once(kernel, name, [&] {
    return status_of(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), name);
  });
}

}  // namespace vimdeploy::cuda
