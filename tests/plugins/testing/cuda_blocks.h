// Runs the source of the CUDA kernels on a CPU: every thread of every block, in different orders.

#pragma once

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "scan/cuda/chunks.h"
#include "scan/cuda/conv1d.h"
#include "scan/cuda/output.h"
#include "testing/hosts.h"

namespace vimdeploy::testing {

// The order in which the threads of a block run between two barriers. A thread that reads what another one writes in
// the same phase sees NaN, or an old number, in some order.
enum class ThreadOrder { forward, backward, shuffled };

inline constexpr ThreadOrder kThreadOrders[] = {ThreadOrder::forward, ThreadOrder::backward, ThreadOrder::shuffled};

// 0 to count - 1.
inline std::vector<int64_t> indices_in(ThreadOrder order, int64_t count, std::mt19937& random) {
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::iota(indices.begin(), indices.end(), 0);
  if (order == ThreadOrder::backward) std::reverse(indices.begin(), indices.end());
  if (order == ThreadOrder::shuffled) std::shuffle(indices.begin(), indices.end(), random);
  return indices;
}

// The threads of a block: one warp after the other, and the threads of a warp one after the other. Their registers
// begin as NaN.
template <typename Registers>
class CpuTeam {
 public:
  class Warp {
   public:
    Warp(CpuTeam& team, int first_thread) : team_(team), first_thread_(first_thread) {}

    int first_thread() const { return first_thread_; }

    template <typename Phase>
    void each(Phase&& phase) {
      for (int64_t lane : indices_in(team_.order_, cuda::kWarp, team_.random_))
        phase(first_thread_ + static_cast<int>(lane), registers_of(static_cast<int>(lane)));
    }

    template <typename T, typename ProductOf>
    void multiply(ProductOf&& product_of) {
      for (int lane = 0; lane < cuda::kWarp; ++lane) {
        auto& product = product_of(registers_of(lane));
        for (int i = 0; i < product.kTiles; ++i) {
          cuda::add_product<T>(
              lane, [&](int other, int word) { return product_of(registers_of(other)).a[i][word]; },
              [&](int other, int word) { return product_of(registers_of(other)).b[word]; }, product.sum[i]);
        }
      }
    }

   private:
    Registers& registers_of(int lane) { return team_.registers_[static_cast<size_t>(first_thread_ + lane)]; }

    CpuTeam& team_;
    int first_thread_;
  };

  CpuTeam(int threads, ThreadOrder order) : registers_(static_cast<size_t>(threads)), order_(order) {
    std::memset(static_cast<void*>(registers_.data()), 0xff, registers_.size() * sizeof(Registers));
  }

  template <typename Body>
  void each_warp(Body&& body) {
    const auto warps = static_cast<int64_t>(registers_.size()) / cuda::kWarp;
    for (int64_t index : indices_in(order_, warps, random_)) {
      Warp warp(*this, static_cast<int>(index) * cuda::kWarp);
      body(warp);
    }
  }

 private:
  std::vector<Registers> registers_;
  ThreadOrder order_;
  std::mt19937 random_{1};
};

// Does what selective_scan_cuda launches, in the same order. Blocks are independent, so they run in any order, too.
inline void run_selective_scan_blocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                                      const SelectiveScanTensors& tensors, void* workspace, ThreadOrder order) {
  const cuda::ScanArguments arguments(problem, plan, tensors, workspace);
  std::mt19937 random(2);
  // block(team, arguments, index, shared) for each block of the launch.
  const auto run = [&](auto registers, int64_t blocks, int threads, size_t shared_bytes, auto block) {
    for (int64_t index : indices_in(order, blocks, random)) {
      GuardedMemory shared(shared_bytes);
      CpuTeam<decltype(registers)> team(threads, order);
      block(team, arguments, static_cast<unsigned>(index), reinterpret_cast<float*>(shared.data()));
      ASSERT_TRUE(shared.is_intact()) << "block " << index << " wrote outside of its shared memory";
    }
  };
  cuda::with_scan_kind(problem, cuda::channels_per_thread(problem, plan, tensors), [&](auto kind) {
    using Kind = decltype(kind);
    if (plan.chunks > 1) {
      const int64_t shared_floats = cuda::shared_layout(1, bytes_of(problem.type), problem.rank, 0).floats;
      run(cuda::SummaryRegisters<Kind>{}, cuda::summary_blocks(arguments), Kind::kGroupThreads,
          static_cast<size_t>(shared_floats) * sizeof(float), [](auto&&... of) { cuda::summary_block<Kind>(of...); });
      for (int64_t index : indices_in(order, cuda::carry_threads(arguments), random))
        cuda::carry_thread(arguments, index);
    }
    run(cuda::OutputRegisters<Kind>{}, cuda::output_blocks(arguments),
        cuda::thread_groups_of(arguments.summands) * Kind::kGroupThreads, plan.shared_bytes,
        [](auto&&... of) { cuda::output_block<Kind>(of...); });
  });
}

// Does what conv1d_cuda launches.
template <typename T>
void run_conv1d_threads(const Conv1dProblem& problem, const Conv1dTensors& tensors) {
  const cuda::ConvolutionArguments<T> arguments(problem, tensors);
  if (arguments.takes_vectors()) {
    const auto threads = static_cast<unsigned>(arguments.threads(cuda::kVector));
    for (unsigned index = 0; index < threads; ++index) cuda::convolve_vectors_thread(arguments, index);
  } else {
    const auto threads = static_cast<unsigned>(arguments.threads(1));
    for (unsigned index = 0; index < threads; ++index) cuda::convolve_thread(arguments, index);
  }
}

}  // namespace vimdeploy::testing
