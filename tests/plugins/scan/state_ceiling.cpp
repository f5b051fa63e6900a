#include "scan/state_ceiling.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "scan/state_ceiling.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include "scan/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {
namespace {

// So many vectors are independent of each other that none waits for the one before, and few enough for the registers.
constexpr int kVectors = 8;

float run(int64_t steps, int64_t& states) {
  const hn::ScalableTag<float> d;
  using V = hn::VFromD<decltype(d)>;
  states = kVectors * static_cast<int64_t>(hn::Lanes(d));
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
    dt = hn::Mul(dt, hn::Set(d, 0.9999f));  // so that no decay is that of the step before
  }
  return hn::ReduceSum(d, total);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace vimdeploy
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vimdeploy::testing {

const std::vector<Kernel<StateCeilingFunction>>& state_ceilings() {
  static const auto kernels = kernels_that_run_here<StateCeilingFunction>(VIMDEPLOY_KERNELS(run));
  return kernels;
}

}  // namespace vimdeploy::testing
#endif
