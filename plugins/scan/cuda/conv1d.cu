// The convolutions on CUDA devices: the __global__ functions around conv1d.h, and their launches.

#include "scan/cuda/operators.h"
#include "scan/cuda/conv1d.h"
#include "scan/cuda/launch.h"

namespace vimdeploy {
namespace cuda {
namespace {

// At most 128 registers a thread.
template <typename T>
__global__ void __launch_bounds__(kThreads, 4)
    conv1d_vectors(const __grid_constant__ ConvolutionArguments<T> arguments) {
  const unsigned index = blockIdx.x * kThreads + threadIdx.x;
  if (index < arguments.threads(kVector)) convolve_vectors_thread(arguments, index);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    conv1d_any_width(const __grid_constant__ ConvolutionArguments<T> arguments) {
  const unsigned index = blockIdx.x * kThreads + threadIdx.x;
  if (index < arguments.threads(1)) convolve_thread(arguments, index);
}

template <typename T>
Status run(const Conv1dProblem& problem, const Conv1dTensors& tensors, cudaStream_t stream) {
  const ConvolutionArguments<T> arguments(problem, tensors);
  const auto blocks = [](int64_t threads) { return (threads + kThreads - 1) / kThreads; };
  if (arguments.takes_vectors()) {
    return launch("conv1d_vectors", &conv1d_vectors<T>, arguments, blocks(arguments.threads(kVector)), kThreads, 0,
                  stream);
  }
  return launch("conv1d_any_width", &conv1d_any_width<T>, arguments, blocks(arguments.threads(1)), kThreads, 0, stream);
}

}  // namespace
}  // namespace cuda

Status conv1d_cuda(const Conv1dProblem& problem, const Conv1dTensors& tensors, CUstream_st* stream) {
  if (problem.batch == 0 || problem.tokens == 0) return {};
  CudaFacts device;
  if (Status s = read_cuda_facts(device); !s.ok()) return s;
  if (Status s = check(problem, device); !s.ok()) return s;
  Status status;
  with_element_type(problem.type, [&](auto element) {
    static_cast<void>(status = cuda::run<decltype(element)>(problem, tensors, stream));
  });
  return status;
}

}  // namespace vimdeploy
