#include "scan/cuda/time_model.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <iterator>

#include "scan/cuda/kernel_costs.h"
#include "scan/cuda/layout.h"

namespace vimdeploy::cuda {
namespace {

// Latency of a warp that is alone on its scheduler, beyond what it issues: shared memory, an exponential, two dependent
// multiply-adds, as far as the instructions of other tokens do not fill the time.
constexpr double kStall = 70;
// From a block's start to its first token: two dependent loads from global memory. One more for every few weights of
// the step size: for eight ranks, or for a product beyond the first, whose weights come with the other loads.
constexpr double kBlockStart = 1500, kWeightsStart = 300;
// A launch, and the end of the one before it.
constexpr double kLaunch = 2000;
// What a chunk adds to carrying the states: by a launch of its own, and at the start of the second walk, where every
// chunk before a block's own is a round trip to the L2 cache.
constexpr double kCarryStep = 30, kCombineStep = 350;
// A barrier of a cluster, before which ptxas puts a fence of all memory. Bytes a clock that a multiprocessor exchanges
// with others: 3.3 TB/s for all 132 of an H100, measured by Luo et al., Benchmarking and Dissecting the Nvidia Hopper
// GPU Architecture (2024).
constexpr double kClusterBarrier = 700, kClusterBytes = 14;
// Bytes a clock that a multiprocessor has from the L2 cache while all others do the same, and what part of the memory's
// bandwidth a kernel reaches: usual figures.
constexpr double kCacheBytes = 32, kOfBandwidth = 0.85;

// Shared memory that CUDA reserves for each block, in bytes.
constexpr int64_t kReservedShared = 1024;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The time of work that keeps several units busy at once. The busiest one would suffice if none waited for another; the
// nearer they come to each other, the more they do.
double at_once(std::initializer_list<double> times) {
  double sum = 0;
  for (double time : times) sum += time * time * time * time;
  return std::sqrt(std::sqrt(sum));
}

// Multiply-adds of float32 that a multiprocessor begins in a clock: CUDA C++ Programming Guide, throughput of native
// arithmetic instructions. Of special functions all begin 16, and all have four schedulers with an instruction each.
double float32_lanes(const CudaFacts& device) { return device.compute_capability <= 80 ? 64 : 128; }

TokenCost token_cost(Walk walk, const SelectiveScanProblem& problem, int channels, const CudaFacts& device) {
  const int64_t bytes = bytes_of(problem.type);
  const auto counted = std::find_if(std::begin(kKernelCosts), std::end(kKernelCosts), [&](const KernelCost& cost) {
    return cost.walk == walk && cost.form == form_of(problem) && cost.bytes == bytes && cost.channels == channels;
  });
  if (counted == std::end(kKernelCosts)) return {};  // such a kernel is not compiled
  const auto states = static_cast<double>(state_group_of(problem.states)),
             rank = static_cast<double>(multiplies_by_warp(bytes) ? products_of(problem.rank) : problem.rank);
  const auto of = [&](const Linear& cost) { return cost.fixed + cost.state * states + cost.rank * rank; };
  const double issued = of(counted->issued), special = counted->specials + states;
  const auto warps = static_cast<double>(channels);  // of 32 channels
  TokenCost cost;
  cost.latency = kStall + warps * std::max(issued, 8 * special);
  cost.clocks = warps * at_once({issued / 4, of(counted->float32) * 32 / float32_lanes(device), special * 32 / 16,
                                 of(counted->shared)});
  return cost;
}

}  // namespace

int64_t groups_of(const SelectiveScanProblem& problem) { return thread_groups_of(subscans_of_output(problem)); }

int64_t blocks_per_chunk(const SelectiveScanProblem& problem) {
  return outputs_of(problem) * problem.batch * divide_up(problem.channels, kChannelTile);
}

int64_t blocks_in_registers(const SelectiveScanProblem& problem, int64_t groups, int64_t channels_per_thread,
                            bool is_cluster) {
  const auto channels = static_cast<int>(channels_per_thread);
  return resident_threads(state_group_of(problem.states), channels, is_cluster) / (groups * group_threads(channels));
}

int64_t resident_blocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                        const CudaFacts& device) {
  const auto bytes = static_cast<int64_t>(plan.shared_bytes);
  if (bytes > device.shared_bytes_per_block) return 0;
  const bool is_cluster = plan.schedule == Schedule::cluster;
  return std::min(blocks_in_registers(problem, groups_of(problem), plan.channels_per_thread, is_cluster),
                  device.shared_bytes_per_multiprocessor / (bytes + kReservedShared));
}

TimeModel::TimeModel(const SelectiveScanProblem& problem, const CudaFacts& device)
    : problem_(problem), device_(device) {
  for (int channels : {1, 2}) {
    output_[channels - 1] = token_cost(Walk::output, problem, channels, device);
    cluster_[channels - 1] = token_cost(Walk::cluster, problem, channels, device);
    summary_[channels - 1] = token_cost(Walk::summary, problem, channels, device);
  }
  const double positions = static_cast<double>(problem.batch * problem.tokens),
               values = positions * static_cast<double>(problem.channels),
               directions = static_cast<double>(problem.directions()),
               outputs = static_cast<double>(outputs_of(problem)), bytes = static_cast<double>(bytes_of(problem.type));
  inputs_ = values * directions * (form_of(problem) == Form::given ? 2 : 1) * bytes;
  rows_ = positions * directions * static_cast<double>(problem.rank + 2 * problem.states) * bytes;
  outputs_ = values * outputs * (problem.is_gated ? 2 : 1) * bytes;  // and z
  sums_ = subscans_of_output(problem) > 1 ? 2 * 4 * values * outputs : 0;
}

double TimeModel::walk(const TokenCost& cost, double tokens, double once, int64_t blocks, int64_t threads,
                       int64_t resident) const {
  const auto wave = [&](int64_t count) {  // `count` blocks on a multiprocessor, whose four schedulers share the warps
    const auto warps = static_cast<double>(divide_up(count * threads, 4 * 32) * 4);
    return once + tokens * std::max(cost.latency, warps * cost.clocks);
  };
  const int64_t blocks_per_wave = resident * device_.multiprocessors;
  const int64_t rest = divide_up(blocks % blocks_per_wave, device_.multiprocessors);
  return static_cast<double>(blocks / blocks_per_wave) * wave(resident) + (rest > 0 ? wave(rest) : 0);
}

double TimeModel::cache_clocks(const SelectiveScanCudaPlan& plan) const {
  const double walks = plan.chunks > 1 ? 2 : 1, tiles = static_cast<double>(divide_up(problem_.channels, kChannelTile)),
               bytes = walks * (inputs_ + rows_ * tiles) + outputs_ + (plan.sums_in_shared ? 0 : sums_);
  return bytes / (kCacheBytes * static_cast<double>(device_.multiprocessors));
}

double TimeModel::memory_clocks(const SelectiveScanCudaPlan& plan) const {
  const double walks = plan.chunks > 1 ? 2 : 1, sums = plan.sums_in_shared ? 0 : sums_,
               all = inputs_ + rows_ + outputs_ + sums / 2;
  // What the operator before has left in the cache does not come from memory, unless there is so much that it is gone.
  const double share = std::clamp(all / static_cast<double>(device_.cache_bytes) - 0.5, 0.0, 1.0);
  const double bytes_per_clock =
      kOfBandwidth * 1000 * static_cast<double>(device_.memory_mb_per_s) / static_cast<double>(device_.clock_khz);
  // Sums are read before they leave the cache, and are written out of it some time.
  return share * (walks * (inputs_ + rows_) + outputs_ + sums / 2) / bytes_per_clock;
}

double TimeModel::clocks(const SelectiveScanCudaPlan& plan) const {
  if (plan.chunks == 0) return 0;
  const int64_t channels = plan.channels_per_thread, group = group_threads(static_cast<int>(channels)),
                threads = groups_of(problem_) * group, blocks = blocks_per_chunk(problem_) * plan.chunks,
                subscans = subscans_of_output(problem_),
                resident = std::max<int64_t>(1, resident_blocks(problem_, plan, device_));
  const auto passes = static_cast<double>(divide_up(subscans, kThreadGroups)),
             tokens = static_cast<double>(plan.chunk_tokens), chunks = static_cast<double>(plan.chunks);
  const int64_t loads_of_weights = multiplies_by_warp(bytes_of(problem_.type))
                                       ? std::max<int64_t>(0, products_of(problem_.rank) - 1)
                                       : divide_up(problem_.rank, 8);
  const double start = kBlockStart + kWeightsStart * static_cast<double>(loads_of_weights);
  const auto output = [&](double more) {
    return passes * walk(output_[channels - 1], tokens, start + more, blocks, threads, resident);
  };
  const auto summary = [&] {
    const int64_t summaries = blocks / plan.chunks * (plan.chunks - 1) * subscans;
    const int64_t at_once = blocks_in_registers(problem_, 1, channels);
    return walk(summary_[channels - 1], tokens, start, summaries, group, at_once);
  };
  double launches = 1, clocks = 0;
  switch (plan.schedule) {
    case Schedule::sequences:
      clocks = output(0);
      break;
    case Schedule::cluster: {
      // Every state is read, with the sum of its step sizes, and written once. The next walk's first tile is loaded
      // meanwhile.
      const int64_t rows = 3 * plan.state_group, here = std::min(resident, divide_up(blocks, device_.multiprocessors));
      const double exchange = 2 * kClusterBarrier + static_cast<double>(4 * rows * threads * here) / kClusterBytes;
      clocks = passes * walk(cluster_[channels - 1], 2 * tokens, start + exchange, blocks, threads, resident);
      break;
    }
    case Schedule::two_launches:
      launches = 2;
      clocks = summary() + output(kCombineStep * chunks);
      break;
    case Schedule::three_launches:
      launches = 3;
      clocks = summary() + kCarryStep * chunks + output(0);
      break;
  }
  return launches * kLaunch + at_once({clocks, cache_clocks(plan), memory_clocks(plan)});
}

double TimeModel::us(const SelectiveScanCudaPlan& plan) const {
  return clocks(plan) * 1000 / static_cast<double>(device_.clock_khz);
}

}  // namespace vimdeploy::cuda
