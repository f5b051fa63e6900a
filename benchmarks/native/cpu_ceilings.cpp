#include "cpu_ceilings.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu_ceilings.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include "scan/cpu/math-inl.h"
#include "scan/cpu/selective_scan_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {
namespace {

// Independent vectors: enough to hide the latency of each, and few enough for the registers.
constexpr int kVectors = 8;

float run_states_in_registers(int64_t steps, int64_t& states) {
  const Tag d;
  states = kVectors * kLanes;
  V h[kVectors], decay[kVectors];
  for (int n = 0; n < kVectors; ++n) {
    h[n] = hn::Zero(d);
    decay[n] = hn::Set(d, -0.01f * static_cast<float>(n + 1));
  }
  const V B = hn::Set(d, 0.5f), C = hn::Set(d, 0.25f);
  V dt = hn::Set(d, 1.0f), total = hn::Zero(d);
  for (int64_t i = 0; i < steps; ++i) {
    V sum = hn::Zero(d);
    HWY_UNROLL(8)
    for (int n = 0; n < kVectors; ++n) {
      const V kept = exp2(d, hn::Mul(dt, decay[n]));
      h[n] = hn::MulAdd(kept, h[n], hn::Mul(dt, B));
      sum = hn::MulAdd(h[n], C, sum);
    }
    total = hn::Add(total, sum);
    dt = hn::Mul(dt, hn::Set(d, 0.9999f));  // so that every step has another decay
  }
  return hn::ReduceSum(d, total);
}

void run_bare_scan(const SelectiveScanProblem& problem, const SelectiveScanPlan& plan,
                   const SelectiveScanTensors& tensors, void* scratch) {
  const Task task{problem, plan, tensors, 0, 0, problem.channels, aligned_scratch(scratch)};
  const int64_t L = problem.tokens, E = problem.channels;
  for (int64_t k = 0; k < problem.directions(); ++k) {
    for (int64_t begin = 0; begin < L; begin += plan.token_block) {
      for (int64_t c = 0; c < E; c += kLanes) {
        Block<float> block;
        block.tokens = HWY_MIN(plan.token_block, L - begin);
        block.is_first_direction = block.is_last_direction = block.streams = false;
        block.c = c;
        block.count = kLanes;
        block.u = block.delta = {tensors.u.at<float>(k, 0, begin), tensors.u.token};
        block.z = {tensors.z.at<float>(k, 0, begin), tensors.z.token};
        block.y = block.sum = {tensors.y.at<float>(k, 0, begin), tensors.y.token};
        int64_t n = 0;
        for (; n + kStatesInRegisters <= problem.states; n += kStatesInRegisters) {
          run_states<kStatesInRegisters>(task, block, block, n);
        }
      }
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace vimdeploy
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vimdeploy::benchmarks {

const std::vector<Kernel<StateCeilingFunction>>& state_ceilings() {
  static const auto kernels = kernels_that_run_here<StateCeilingFunction>(VIMDEPLOY_KERNELS(run_states_in_registers));
  return kernels;
}

const std::vector<Kernel<BareScanFunction>>& bare_scans() {
  static const auto kernels = kernels_that_run_here<BareScanFunction>(VIMDEPLOY_KERNELS(run_bare_scan));
  return kernels;
}

}  // namespace vimdeploy::benchmarks
#endif
