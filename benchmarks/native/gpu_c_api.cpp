// The CUDA kernels as C functions, for benchmarks/gpu_kit/kernels.py, which calls them on PyTorch's tensors.
//
// Sizes are (batch, tokens, channels, width, channels of x) for the convolution and (batch, tokens, channels, states,
// rank) for a scan, which is named by its operator; tensors are device pointers, the operator's inputs in the
// contract's order, then its output. A choice of a plan is four numbers: a schedule, by its place in kSchedules, or -1
// for the one that is expected to be the fastest; the most chunks, or 0 for as many as are expected to be the fastest;
// and with a number of chunks, whether the sums are in shared memory, and the channels of a thread. Everything runs on
// the given stream. Each function returns nullptr, or an error message that is valid until the thread's next call.

#include <cstring>
#include <iterator>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>

#include "gpu_ceilings.h"
#include "scan/cuda/operators.h"
#include "scan/cuda/time_model.h"
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

struct Scan {
  const char* name;  // of the operator
  int type;
  const int64_t* sizes;
  int directions;
  const int64_t* reverse;
};

// Calls body(Operator(), problem) with the scan of that name; `problem` lacks the attributes but reverse.
template <typename Body>
Status with_scan(const Scan& scan, Body&& body) {
  Status status = Status::error(std::string("there is no scan ") + scan.name);
  for_each_operator([&](auto op) {
    using Operator = decltype(op);
    if constexpr (std::is_same_v<typename Operator::Problem, SelectiveScanProblem>) {
      if (std::strcmp(scan.name, Operator::kName) != 0) return;
      SelectiveScanProblem problem = Operator::problem();
      problem.type = static_cast<ElementType>(scan.type);
      problem.batch = scan.sizes[0];
      problem.tokens = scan.sizes[1];
      problem.channels = scan.sizes[2];
      problem.states = scan.sizes[3];
      problem.rank = scan.sizes[4];
      problem.reverse.assign(scan.reverse, scan.reverse + scan.directions);
      status = body(op, problem);
    }
  });
  return status;
}

SelectiveScanCudaPlan plan_of(const SelectiveScanProblem& problem, const CudaFacts& device, const int64_t* choice) {
  const auto [schedule, chunks, sums_in_shared, channels_per_thread] =
      std::tuple(choice[0], choice[1], choice[2] != 0, choice[3]);
  if (chunks > 0) return cuda_plan_with(problem, kSchedules[schedule], chunks, sums_in_shared, channels_per_thread);
  return cuda_plan_of(problem, device, schedule < 0 ? std::nullopt : std::optional(kSchedules[schedule]));
}

template <typename Problem>
Status check_on_this_device(const Problem& problem, CudaFacts& device) {
  if (Status status = check(problem); !status.ok()) return status;
  if (Status status = read_cuda_facts(device); !status.ok()) return status;
  return check(problem, device);
}

}  // namespace
}  // namespace vimdeploy

using namespace vimdeploy;

VIMDEPLOY_EXPORT const char* vimdeploy_gpu_conv1d(int type, const int64_t* sizes, int directions,
                                                  const int64_t* reverse, int silu, void* const* tensors,
                                                  CUstream_st* stream) {
  return sentence_of(guard([&] {
    Conv1dProblem problem = CausalConv1dOperator::problem();
    problem.type = static_cast<ElementType>(type);
    problem.batch = sizes[0];
    problem.tokens = sizes[1];
    problem.channels = sizes[2];
    problem.width = sizes[3];
    problem.row = sizes[4];
    problem.silu = silu;
    problem.reverse.assign(reverse, reverse + directions);
    CudaFacts device;
    if (Status status = check_on_this_device(problem, device); !status.ok()) return status;
    return conv1d_cuda(problem, {tensors[0], tensors[1], tensors[2], tensors[3]}, stream);
  }));
}

VIMDEPLOY_EXPORT const char* vimdeploy_gpu_scan_plan(const char* name, int type, const int64_t* sizes, int directions,
                                                     const int64_t* reverse, const int64_t* choice, char* text,
                                                     size_t text_bytes, size_t* workspace_bytes, double* expected_us) {
  return sentence_of(guard([&] {
    return with_scan({name, type, sizes, directions, reverse}, [&](auto, const SelectiveScanProblem& problem) {
      CudaFacts device;
      if (Status status = check_on_this_device(problem, device); !status.ok()) return status;
      const SelectiveScanCudaPlan plan = plan_of(problem, device, choice);
      *workspace_bytes = plan.workspace_bytes;
      *expected_us = cuda::TimeModel(problem, device).us(plan);
      const std::string words = plan.to_string().substr(0, text_bytes - 1);
      std::memcpy(text, words.c_str(), words.size() + 1);
      return Status();
    });
  }));
}

VIMDEPLOY_EXPORT const char* vimdeploy_gpu_scan(const char* name, int type, const int64_t* sizes, int directions,
                                                const int64_t* reverse, float scale, int delta_softplus,
                                                const int64_t* choice, void* const* tensors, void* workspace,
                                                CUstream_st* stream) {
  return sentence_of(guard([&] {
    return with_scan({name, type, sizes, directions, reverse}, [&](auto op, SelectiveScanProblem& problem) {
      problem.scale = scale;
      problem.delta_softplus = delta_softplus;
      CudaFacts device;
      if (Status status = check_on_this_device(problem, device); !status.ok()) return status;
      const SelectiveScanCudaPlan plan = plan_of(problem, device, choice);
      const auto scan_tensors = op.tensors(problem, tensors, tensors[std::size(op.kInputs)]);
      return selective_scan_cuda(problem, plan, scan_tensors, workspace, stream);
    });
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

// The same for loads of 16 bytes from shared memory by warps, of one address for all lanes.
VIMDEPLOY_EXPORT const char* vimdeploy_gpu_count_shared_loads(int blocks, float* values, int64_t* operations,
                                                              CUstream_st* stream) {
  return sentence_of(benchmarks::run_shared_loads(blocks, values, *operations, stream));
}
