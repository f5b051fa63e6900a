// The CUDA kernels as C functions, for benchmarks/gpu_kit/kernels.py, which calls them on PyTorch's tensors.
//
// Sizes are (batch, tokens, channels, width) for the convolution and (batch, tokens, channels, states, rank) for the
// scan; tensors are device pointers, the operator's inputs in the contract's order, then its output. Everything runs on
// the given stream. Each function returns nullptr, or an error message that is valid until the thread's next call.

#include <cstring>
#include <string>
#include <vector>

#include "gpu_ceilings.h"
#include "scan/cuda/operators.h"
#include "scan/operators.h"
#include "support/export.h"
#include "support/guard.h"

namespace vimdeploy {
namespace {

const char* sentence_of(Status status) {
  thread_local std::string sentence;
  sentence = status.message();
  return status.ok() ? nullptr : sentence.c_str();
}

SelectiveScanProblem scan_problem(int type, const int64_t* sizes, int directions, const int64_t* reverse) {
  SelectiveScanProblem problem;
  problem.type = static_cast<ElementType>(type);
  problem.batch = sizes[0];
  problem.tokens = sizes[1];
  problem.channels = sizes[2];
  problem.states = sizes[3];
  problem.rank = sizes[4];
  problem.reverse.assign(reverse, reverse + directions);
  return problem;
}

Status plan_on_this_device(const SelectiveScanProblem& problem, int regime, SelectiveScanCudaPlan& plan) {
  CudaFacts device;
  if (Status status = check(problem); !status.ok()) return status;
  if (Status status = read_cuda_facts(device); !status.ok()) return status;
  if (Status status = check(problem, device); !status.ok()) return status;
  plan = cuda_plan_of(problem, device, static_cast<Regime>(regime));
  return {};
}

}  // namespace
}  // namespace vimdeploy

using namespace vimdeploy;

VIMDEPLOY_EXPORT const char* vimdeploy_gpu_conv1d(int type, const int64_t* sizes, int directions,
                                                  const int64_t* reverse, void* const* tensors, CUstream_st* stream) {
  return sentence_of(guard([&] {
    Conv1dProblem problem;
    problem.type = static_cast<ElementType>(type);
    problem.batch = sizes[0];
    problem.tokens = sizes[1];
    problem.channels = sizes[2];
    problem.width = sizes[3];
    problem.row = 2 * problem.channels;
    problem.reverse.assign(reverse, reverse + directions);
    CudaFacts device;
    if (Status status = check(problem); !status.ok()) return status;
    if (Status status = read_cuda_facts(device); !status.ok()) return status;
    if (Status status = check(problem, device); !status.ok()) return status;
    return conv1d_cuda(problem, {tensors[0], tensors[1], tensors[2], tensors[3]}, stream);
  }));
}

VIMDEPLOY_EXPORT const char* vimdeploy_gpu_scan_plan(int type, const int64_t* sizes, int directions,
                                                     const int64_t* reverse, int regime, char* text, size_t text_bytes,
                                                     size_t* workspace_bytes) {
  return sentence_of(guard([&] {
    SelectiveScanCudaPlan plan;
    Status status = plan_on_this_device(scan_problem(type, sizes, directions, reverse), regime, plan);
    *workspace_bytes = plan.workspace_bytes;
    const std::string words = plan.to_string().substr(0, text_bytes - 1);
    std::memcpy(text, words.c_str(), words.size() + 1);
    return status;
  }));
}

VIMDEPLOY_EXPORT const char* vimdeploy_gpu_scan(int type, const int64_t* sizes, int directions, const int64_t* reverse,
                                                float scale, int regime, void* const* tensors, void* workspace,
                                                CUstream_st* stream) {
  return sentence_of(guard([&] {
    SelectiveScanProblem problem = scan_problem(type, sizes, directions, reverse);
    problem.scale = scale;
    SelectiveScanCudaPlan plan;
    if (Status status = plan_on_this_device(problem, regime, plan); !status.ok()) return status;
    return selective_scan_cuda(problem, plan, BidirectionalScanOperator::tensors(problem, tensors, tensors[7]),
                               workspace, stream);
  }));
}

// `values` holds 256 numbers a block; `operations` receives the number of exp2 that are computed.
VIMDEPLOY_EXPORT const char* vimdeploy_gpu_count_exp2(int blocks, float* values, int64_t* operations,
                                                      CUstream_st* stream) {
  return sentence_of(benchmarks::run_exp2(blocks, values, *operations, stream));
}

// The same for multiply-adds.
VIMDEPLOY_EXPORT const char* vimdeploy_gpu_count_fma(int blocks, float* values, int64_t* operations,
                                                     CUstream_st* stream) {
  return sentence_of(benchmarks::run_fma(blocks, values, *operations, stream));
}
