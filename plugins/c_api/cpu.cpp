// The C functions on the CPU, each call with threads of its own.

#include "c_api/vimdeploy.h"

#include <algorithm>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

#include "c_api/call.h"
#include "scan/cpu/operators.h"
#include "support/export.h"

namespace vimdeploy::c_api {
namespace {

// A thread for each index but the first, which the caller runs, like those for which there is no thread left.
ParallelFor new_threads() {
  return {nullptr, [](void*, size_t count, void (*task)(void*, size_t), void* user) {
            std::vector<std::thread> threads;
            size_t index = 1;
            try {
              for (threads.reserve(count); index < count; ++index) threads.emplace_back(task, user, index);
            } catch (const std::system_error&) {
            }
            task(user, 0);
            for (; index < count; ++index) task(user, index);
            for (std::thread& thread : threads) thread.join();
          }};
}

// Multiply-adds for an output, where an exponential counts as a few of them.
int64_t work_of_output(const SelectiveScanProblem& problem) { return problem.states + 4; }
int64_t work_of_output(const Conv1dProblem& problem) { return problem.width + 4; }

// The threads that are worth starting: each takes about 80 us to start, as long as this much work.
template <typename Problem>
int64_t threads_for(const Problem& problem, int most) {
  constexpr double kWorkOfAThread = 1 << 20;
  const double outputs = static_cast<double>(problem.batch * problem.directions() * problem.tokens * problem.channels);
  const double wanted = outputs * static_cast<double>(work_of_output(problem)) / kWorkOfAThread;
  return static_cast<int64_t>(std::clamp<double>(wanted, 1, most));
}

template <typename Kernels, typename Problem, typename Tensors>
Status run_best(const Kernels& kernels, const Problem& problem, const Tensors& tensors, int threads) {
  if (threads < 1) {
    return Status::error(std::string(problem.name) + ": threads is " + std::to_string(threads) + ", wanted at least 1");
  }
  const auto plan = plan_of(problem, {threads_for(problem, threads)});
  const std::unique_ptr<unsigned char[]> scratch(new unsigned char[plan.scratch_bytes]);
  kernels.front().run(problem, plan, tensors, scratch.get(), new_threads());
  return {};
}

template <typename Operator>
Status run_scan(const Arguments& call, int delta_softplus, void* y, float* last_state, int threads) {
  auto problem = Operator::problem();
  problem.delta_softplus = delta_softplus;
  if (Status s = read_call<Operator>(call, problem); !s.ok()) return s;
  auto tensors = Operator::tensors(problem, call.inputs, y);
  tensors.last_state = last_state;
  if (problem.tokens == 0 && last_state != nullptr) {  // no kernel runs
    std::fill_n(last_state, problem.batch * problem.directions() * problem.channels * problem.states, 0.0f);
  }
  return run_best(selective_scan_kernels(), problem, tensors, threads);
}

}  // namespace
}  // namespace vimdeploy::c_api

using namespace vimdeploy;

VIMDEPLOY_EXPORT const char* VimdeploySelectiveScan(int type, const int64_t sizes[6], const int64_t* reverse,
                                                    int delta_softplus, const void* const inputs[8], void* y,
                                                    float* last_state, int threads) {
  return c_api::message_of([&] {
    const c_api::Arguments call{type, "BGLENR", sizes, 'G', reverse, inputs, y};
    const auto run = sizes != nullptr && sizes[5] != 0 ? &c_api::run_scan<LowRankScanOperator>
                                                       : &c_api::run_scan<SelectiveScanOperator>;
    return run(call, delta_softplus, y, last_state, threads);
  });
}

VIMDEPLOY_EXPORT const char* VimdeployCausalConv1d(int type, const int64_t sizes[6], const int64_t* reverse, int silu,
                                                   const void* const inputs[3], void* u, int threads) {
  return c_api::message_of([&]() -> Status {
    auto problem = CausalConv1dOperator::problem();
    problem.silu = silu;
    const c_api::Arguments call{type, "BLXKEW", sizes, 'K', reverse, inputs, u};
    if (Status s = c_api::read_call<CausalConv1dOperator>(call, problem); !s.ok()) return s;
    return c_api::run_best(conv1d_kernels(), problem, CausalConv1dOperator::tensors(problem, inputs, u), threads);
  });
}
