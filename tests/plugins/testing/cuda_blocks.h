// Runs the source of the CUDA kernels on a CPU: every thread of every block, in different orders.

#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <numeric>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "scan/cuda/cluster.h"
#include "scan/cuda/conv1d.h"
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

  template <typename Phase>
  void each(Phase&& phase) {
    for (int64_t thread : indices_in(order_, static_cast<int64_t>(registers_.size()), random_))
      phase(static_cast<int>(thread), registers_[static_cast<size_t>(thread)]);
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

// The blocks of a cluster, each on a thread of its own. One of them runs at a time, from its start or a barrier of the
// cluster to the next one or its end, in any order: a block that uses what another has not written yet, or has written
// over, sees NaN, or an old number, in some order.
class CpuCluster {
 public:
  CpuCluster(int64_t blocks, ThreadOrder order)
      : order_(order), ranks_(indices_in(order, blocks, random_)), shared_(static_cast<size_t>(blocks)) {}

  // Calls block(rank, shared memory) for every block.
  template <typename Block>
  void run(size_t shared_bytes, Block&& block) {
    std::vector<std::thread> threads;
    for (int64_t rank = 0; rank < static_cast<int64_t>(shared_.size()); ++rank) {
      threads.emplace_back([this, shared_bytes, rank, &block] {
        wait_for_turn(rank);
        GuardedMemory shared(shared_bytes, GuardedMemory::kAligned);
        shared_[static_cast<size_t>(rank)] = reinterpret_cast<float*>(shared.data());
        block(static_cast<int>(rank), reinterpret_cast<float*>(shared.data()));
        EXPECT_TRUE(shared.is_intact()) << "block " << rank << " of a cluster wrote outside of its shared memory";
        shared_[static_cast<size_t>(rank)] = nullptr;
        end_turn(true);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  void barrier(int rank) {
    end_turn(false);
    wait_for_turn(rank);
  }

  float* in_block(int own, int other, float* address) {
    float* const memory = shared_[static_cast<size_t>(other)];
    if (memory == nullptr) {
      if (!std::exchange(is_misused_, true))
        ADD_FAILURE() << "the memory of a block that has not begun, or has ended, is used";
      return address;
    }
    return memory + (address - shared_[static_cast<size_t>(own)]);
  }

 private:
  void wait_for_turn(int64_t rank) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return next_ < ranks_.size() && ranks_[next_] == rank; });
  }

  void end_turn(bool is_block_over) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!is_block_over) waiting_.push_back(ranks_[next_]);
    if (++next_ == ranks_.size()) {
      ranks_.clear();
      for (int64_t i : indices_in(order_, static_cast<int64_t>(waiting_.size()), random_)) {
        ranks_.push_back(waiting_[static_cast<size_t>(i)]);
      }
      waiting_.clear();
      next_ = 0;
    }
    changed_.notify_all();
  }

  ThreadOrder order_;
  std::mt19937 random_{3};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int64_t> ranks_;    // blocks of this round, in their order
  std::vector<int64_t> waiting_;  // blocks of the next one
  size_t next_ = 0;
  std::vector<float*> shared_;  // of every block that runs
  bool is_misused_ = false;     // that has been told
};

// A block of a cluster.
template <typename Registers>
class CpuClusterTeam : public CpuTeam<Registers> {
 public:
  CpuClusterTeam(int threads, ThreadOrder order, CpuCluster& cluster, int rank)
      : CpuTeam<Registers>(threads, order), cluster_(cluster), rank_(rank) {}

  template <typename Phase>
  void each_in_cluster(Phase&& phase) {
    this->each(phase);
    cluster_.barrier(rank_);
  }

  float* in_block(int rank, float* address) const { return cluster_.in_block(rank_, rank, address); }

 private:
  CpuCluster& cluster_;
  int rank_;
};

// Does what selective_scan_cuda launches, in the same order. Blocks are independent but for clusters, so they run in
// any order, too.
inline void run_selective_scan_blocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                                      const SelectiveScanTensors& tensors, void* workspace, ThreadOrder order) {
  const cuda::ScanArguments arguments(problem, plan, tensors, workspace);
  std::mt19937 random(2);
  // block(team, arguments, index, shared) for each block of the launch.
  const auto run = [&](auto registers, int64_t blocks, int threads, size_t shared_bytes, auto block) {
    for (int64_t index : indices_in(order, blocks, random)) {
      GuardedMemory shared(shared_bytes, GuardedMemory::kAligned);
      CpuTeam<decltype(registers)> team(threads, order);
      block(team, arguments, static_cast<unsigned>(index), reinterpret_cast<float*>(shared.data()));
      ASSERT_TRUE(shared.is_intact()) << "block " << index << " wrote outside of its shared memory";
    }
  };
  cuda::with_scan_kind(problem, cuda::channels_per_thread(problem, plan, tensors), [&](auto kind) {
    using Kind = decltype(kind);
    const int threads = cuda::thread_groups_of(arguments.summands) * Kind::kGroupThreads;
    if constexpr (Kind::kChannels == 1) {
      if (plan.schedule == Schedule::cluster) {
        for (int64_t cluster : indices_in(order, cuda::output_blocks(arguments) / plan.chunks, random)) {
          CpuCluster blocks(plan.chunks, order);
          blocks.run(plan.shared_bytes, [&](int rank, float* shared) {
            CpuClusterTeam<cuda::OutputRegisters<Kind>> team(threads, order, blocks, rank);
            cuda::cluster_block<Kind>(team, arguments, static_cast<unsigned>(cluster * plan.chunks + rank), shared);
          });
        }
        return;
      }
    }
    if (plan.schedule != Schedule::sequences) {
      const int64_t shared_floats = cuda::shared_layout(1, bytes_of(problem.type), problem.rank, 0, 0).floats;
      run(cuda::SummaryRegisters<Kind>{}, cuda::summary_blocks(arguments), Kind::kGroupThreads,
          static_cast<size_t>(shared_floats) * sizeof(float), [](auto&&... of) { cuda::summary_block<Kind>(of...); });
    }
    if (plan.schedule == Schedule::three_launches) {
      for (int64_t index : indices_in(order, cuda::carry_threads(arguments), random))
        cuda::carry_thread(arguments, index);
    }
    run(cuda::OutputRegisters<Kind>{}, cuda::output_blocks(arguments), threads, plan.shared_bytes,
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
