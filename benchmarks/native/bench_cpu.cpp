// Prints how long the operators take, per instruction set: the plain loop, the kernel on one thread and on two, and the
// scan's bounds. Medians of one run, in which all candidates take turns, and the least times: what a machine can do
// that other programs keep busy.
//
// Usage: bench_cpu [float32|float16|bfloat16] [rounds]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cpu_ceilings.h"
#include "scan/cpu/operators.h"
#include "scan/reference/operators.h"
#include "testing/random_tensors.h"
#include "worker.h"

namespace vimdeploy::benchmarks {
namespace {

using testing::Conv1dCase;
using testing::SelectiveScanCase;
using testing::Tensor;

struct Candidate {
  std::string name;
  std::function<void(ParallelFor)> run;
  double units;  // of work in a run
  bool with_worker = false;
  std::vector<double> ns{};

  double median_ns() {
    std::nth_element(ns.begin(), ns.begin() + static_cast<std::ptrdiff_t>(ns.size() / 2), ns.end());
    return ns[ns.size() / 2] / units;
  }
  double least_ns() const { return *std::min_element(ns.begin(), ns.end()) / units; }
};

// Runs the candidates as A B A B ..., so that a change of the processor's clock affects all of them. A turn begins with
// a run that is not timed, in which the processor powers up its wide vectors. The worker exists only during turns that
// use it.
void run_in_turn(std::vector<Candidate>& candidates, int rounds) {
  using Clock = std::chrono::steady_clock;
  for (int round = 0; round < rounds; ++round) {
    for (Candidate& candidate : candidates) {
      std::optional<Worker> worker;
      if (candidate.with_worker) worker.emplace();
      const ParallelFor parallel_for = worker ? worker->parallel_for() : serial_for();
      candidate.run(parallel_for);
      const auto turn = Clock::now();
      do {
        const auto begin = Clock::now();
        candidate.run(parallel_for);
        candidate.ns.push_back(std::chrono::duration<double, std::nano>(Clock::now() - begin).count());
      } while (Clock::now() - turn < std::chrono::milliseconds(5));
    }
  }
}

void print(std::vector<Candidate>& candidates, const char* unit) {
  for (Candidate& candidate : candidates)
    std::printf("  %-24s %8.3f, least %8.3f ns per %s\n", candidate.name.c_str(), candidate.median_ns(),
                candidate.least_ns(), unit);
}

template <typename Case, typename Kernels, typename Reference>
void add(std::vector<Candidate>& candidates, const Case& c, double units, const Kernels& kernels, Reference reference,
         Tensor& out, std::vector<unsigned char>& scratch) {
  const auto plan = plan_of(c.problem, {1}), plan_for_two = plan_of(c.problem, {2});
  std::printf("%s\n", plan.to_string().c_str());
  scratch.resize(std::max(plan.scratch_bytes, plan_for_two.scratch_bytes));
  candidates.push_back({"plain loop", [&, reference](ParallelFor) { reference(c.problem, c.tensors(out)); }, units});
  for (const auto& kernel : kernels) {
    const std::string name = name_of_instruction_set(kernel.target);
    const auto run_with = [&, kernel](const auto& with_plan) {
      return [&, kernel, with_plan](ParallelFor threads) {
        kernel.run(c.problem, with_plan, c.tensors(out), scratch.data(), threads);
      };
    };
    candidates.push_back({name, run_with(plan), units});
    candidates.push_back({name + ", two threads", run_with(plan_for_two), units, true});
  }
}

void bench_scan(ElementType type, int64_t tokens, int rounds) {
  SelectiveScanCase scan({type, 1, tokens, 384, 16, 12, {0, 1}, 0.5f});
  const double units = 2.0 * static_cast<double>(tokens) * 384 * 16;
  std::vector<unsigned char> scratch;
  std::vector<Candidate> candidates;
  std::printf("L %lld, %s: ", static_cast<long long>(tokens), name_of(type));
  add(candidates, scan, units, selective_scan_kernels(), selective_scan_reference, scan.y, scratch);
  for (const auto& ceiling : state_ceilings()) {
    constexpr int64_t kSteps = 20000;
    int64_t states = 0;
    volatile float kept = ceiling.run(1, states);
    candidates.push_back({name_of_instruction_set(ceiling.target) + std::string(", ceiling"),
                          [&kept, ceiling](ParallelFor) {
                            int64_t n;
                            kept = ceiling.run(kSteps, n);
                          },
                          static_cast<double>(kSteps * states)});
  }
  SelectiveScanCase floats({ElementType::float32, 1, tokens, 384, 16, 12, {0, 1}, 0.5f});
  const auto plan = plan_of(floats.problem, {1});
  std::vector<unsigned char> bare_scratch(plan.scratch_bytes);
  for (const auto& bare : bare_scans()) {
    candidates.push_back(
        {name_of_instruction_set(bare.target) + std::string(", bare scan"),
         [&, bare](ParallelFor) { bare.run(floats.problem, plan, floats.tensors(floats.y), bare_scratch.data()); },
         units});
  }
  run_in_turn(candidates, rounds);
  print(candidates, "token, channel, state and direction");
}

// The tensors that a scan of given step sizes cannot avoid: u and delta are read, y is written.
void add_inputs(const SelectiveScanCase& c, Tensor& out) {
  with_element_type(c.problem.type, [&](auto element) {
    using T = decltype(element);
    const auto *u = static_cast<const T*>(c.u.data()), *delta = static_cast<const T*>(c.delta.data());
    auto* y = static_cast<T*>(out.data());
    for (int64_t i = 0; i < out.size(); ++i) y[i] = from_float<T>(to_float(u[i]) + to_float(delta[i]));
  });
}

// Scans of groups, each with one direction: the first stage of VMamba-T, which has one state, a stage of MambaVision-T
// and a layer of a Mamba of 384 channels at 224 pixels.
void bench_groups(ElementType type, int rounds) {
  struct Size {
    int64_t groups, tokens, channels, states, rank;
  };
  for (const Size& size : {Size{4, 3136, 96, 1, 0}, {4, 3136, 96, 1, 6}, {1, 196, 160, 8, 0}, {1, 1024, 384, 16, 0}}) {
    SelectiveScanCase scan(testing::problem_of_groups(type, 1, size.tokens, size.channels, size.states, size.rank,
                                                      std::vector<int64_t>(static_cast<size_t>(size.groups))));
    std::vector<unsigned char> scratch;
    std::vector<Candidate> candidates;
    std::printf("G %lld, L %lld, E %lld, N %lld, R %lld, %s: ", static_cast<long long>(size.groups),
                static_cast<long long>(size.tokens), static_cast<long long>(size.channels),
                static_cast<long long>(size.states), static_cast<long long>(size.rank), name_of(type));
    const auto units = static_cast<double>(size.groups * size.tokens * size.channels);
    add(candidates, scan, units, selective_scan_kernels(), selective_scan_reference, scan.y, scratch);
    if (size.rank == 0) candidates.push_back({"y = u + delta", [&](ParallelFor) { add_inputs(scan, scan.y); }, units});
    run_in_turn(candidates, rounds);
    print(candidates, "token and channel");
  }
}

void bench_conv1d(ElementType type, int64_t tokens, int rounds) {
  Conv1dCase conv({type, 1, tokens, 384, 4, {0, 1}});
  std::vector<unsigned char> scratch;
  std::vector<Candidate> candidates;
  std::printf("L %lld, %s: ", static_cast<long long>(tokens), name_of(type));
  add(candidates, conv, 2.0 * static_cast<double>(tokens) * 384, conv1d_kernels(), conv1d_reference, conv.u, scratch);
  run_in_turn(candidates, rounds);
  print(candidates, "token, channel and direction");
}

}  // namespace
}  // namespace vimdeploy::benchmarks

int main(int argc, char** argv) {
  using vimdeploy::ElementType;
  const std::string name = argc > 1 ? argv[1] : "float32";
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 15;
  for (ElementType type : vimdeploy::kElementTypes) {
    if (name != name_of(type)) continue;
    for (int64_t tokens : {197, 6085}) {
      vimdeploy::benchmarks::bench_scan(type, tokens, rounds);
      vimdeploy::benchmarks::bench_conv1d(type, tokens, rounds);
    }
    vimdeploy::benchmarks::bench_groups(type, rounds);
  }
}
