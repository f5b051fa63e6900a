// Prints how long both operators take on one thread, per instruction set, beside the plain loops and the
// ceiling of the scan's arithmetic: medians of one run.
// Usage: bench_selective_scan [float32|float16|bfloat16] [repetitions]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "scan/conv1d.h"
#include "scan/selective_scan.h"
#include "scan/state_ceiling.h"
#include "testing/random_tensors.h"

namespace vimdeploy::testing {
namespace {

template <typename Body>
double median_ns(int repetitions, Body body) {
  std::vector<double> times;
  for (int i = 0; i < repetitions; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    body();
    times.push_back(std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count());
  }
  std::nth_element(times.begin(), times.begin() + repetitions / 2, times.end());
  return times[static_cast<size_t>(repetitions / 2)];
}

template <typename Case, typename Kernels, typename Reference>
void bench(const char* unit, Case& c, double units, const Kernels& kernels, Reference reference, Tensor& out,
           int repetitions) {
  const auto plan = plan_of(c.problem, {1});
  std::vector<unsigned char> scratch(plan.scratch_bytes);
  std::printf("%s\n", plan.to_string().c_str());
  std::printf("  L %-5lld %-9s %-8s %8.3f ns per %s\n", static_cast<long long>(c.problem.tokens),
              name_of(c.problem.type), "plain", median_ns(1, [&] { reference(c.problem, c.tensors(out)); }) / units,
              unit);
  for (const auto& kernel : kernels) {
    const auto run = [&] { kernel.run(c.problem, plan, c.tensors(out), scratch.data(), serial_for()); };
    run();
    std::printf("  L %-5lld %-9s %-8s %8.3f ns per %s\n", static_cast<long long>(c.problem.tokens),
                name_of(c.problem.type), name_of_instruction_set(kernel.target), median_ns(repetitions, run) / units,
                unit);
  }
}

// Whatever the problem: float32 in registers.
void bench_ceiling(int repetitions) {
  constexpr int64_t kSteps = 100000;
  std::printf("An exp2, two products and two multiply-adds a state, in registers alone\n");
  for (const auto& kernel : state_ceilings()) {
    int64_t states = 0;
    volatile float kept = 0.0f;
    const double ns = median_ns(repetitions, [&] { kept = kernel.run(kSteps, states); });
    std::printf("  %-26s %8.3f ns per state\n", name_of_instruction_set(kernel.target),
                ns / static_cast<double>(kSteps * states));
  }
}

void bench_all(ElementType type, int64_t tokens, int repetitions) {
  SelectiveScanCase scan({type, 1, tokens, 384, 16, 12, {0, 1}, 0.5f});
  bench("token, channel, state and direction", scan, 2.0 * static_cast<double>(tokens) * 384 * 16,
        selective_scan_kernels(), selective_scan_reference, scan.y, repetitions);
  Conv1dCase conv({type, 1, tokens, 384, 4, {0, 1}});
  bench("token, channel and direction", conv, 2.0 * static_cast<double>(tokens) * 384, conv1d_kernels(),
        conv1d_reference, conv.u, repetitions);
}

}  // namespace
}  // namespace vimdeploy::testing

int main(int argc, char** argv) {
  using vimdeploy::ElementType;
  const std::string name = argc > 1 ? argv[1] : "float32";
  const int repetitions = argc > 2 ? std::atoi(argv[2]) : 15;
  vimdeploy::testing::bench_ceiling(repetitions);
  for (ElementType type : vimdeploy::kElementTypes) {
    if (name != name_of(type)) continue;
    for (int64_t tokens : {197, 6085}) vimdeploy::testing::bench_all(type, tokens, repetitions);
  }
}
