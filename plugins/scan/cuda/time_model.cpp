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
// From a block's start to its first token: two dependent loads from global memory; for each rank, a step of the loop
// that stages the weights of the step size.
constexpr double kBlockStart = 1500, kRankStart = 80;
// The second walk of a cluster begins with rows and u that are in a cache.
constexpr double kWalkAgain = 600;
// A launch, and the end of the one before it.
constexpr double kLaunch = 2000;
// What carrying states from a chunk to the next takes, by a launch of its own and at the start of the second walk: there
// (state_group + 1) * kChannelTile floats come from the L2 cache, at some 32 bytes a clock.
constexpr double kCarryStep = 30, kCombineStep = 250;
// A barrier of a cluster. Bytes a clock that a multiprocessor exchanges with others: 3.3 TB/s for all 132 of an H100,
// measured by Luo et al., Benchmarking and Dissecting the Nvidia Hopper GPU Architecture (2024).
constexpr double kClusterBarrier = 400, kClusterBytes = 14;
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

// What a warp takes for a token.
struct TokenCost {
  double latency = 0;  // if it is alone
  double clocks = 0;   // of a multiprocessor that has enough warps
};

TokenCost token_cost(Walk walk, const SelectiveScanProblem& problem, int64_t channels, const CudaFacts& device) {
  const Form form = form_of(problem);
  const auto counted = std::find_if(std::begin(kKernelCosts), std::end(kKernelCosts), [&](const KernelCost& cost) {
    return cost.walk == walk && cost.form == form && cost.channels == channels;
  });
  const auto states = static_cast<double>(state_group_of(problem.states)), rank = static_cast<double>(problem.rank);
  const auto of = [&](const Linear& cost) { return cost.fixed + cost.state * states + cost.rank * rank; };
  const double issued = of(counted->issued), special = counted->specials + states;
  const auto warps = static_cast<double>(channels);  // of 32 channels
  TokenCost cost;
  cost.latency = kStall + warps * std::max(issued, 8 * special);
  cost.clocks = warps * at_once({issued / 4, of(counted->float32) * 32 / float32_lanes(device), special * 32 / 16,
                                 of(counted->shared)});
  return cost;
}

// Clocks for walks over `tokens` tokens by `blocks` blocks, of which `resident` fit a multiprocessor at once; a block
// takes `more` clocks in addition.
double walk_clocks(const TokenCost& cost, double tokens, double more, int64_t blocks, int64_t threads,
                   int64_t resident, const CudaFacts& device) {
  const auto wave = [&](int64_t count) {  // the four schedulers share the warps
    const auto warps = static_cast<double>(divide_up(count * threads, 4 * 32) * 4);
    return more + tokens * std::max(cost.latency, warps * cost.clocks);
  };
  const int64_t blocks_per_wave = resident * device.multiprocessors;
  const int64_t rest = divide_up(blocks % blocks_per_wave, device.multiprocessors);
  return static_cast<double>(blocks / blocks_per_wave) * wave(resident) + (rest > 0 ? wave(rest) : 0);
}

// Clocks for the bytes of a plan, at the bandwidth of the L2 cache and at that of the memory.
struct ByteClocks {
  double cache, memory;
};

ByteClocks byte_clocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                       const CudaFacts& device) {
  const double positions = static_cast<double>(problem.batch * problem.tokens),
               values = positions * static_cast<double>(problem.channels),
               directions = static_cast<double>(problem.directions()), walks = plan.chunks > 1 ? 2 : 1,
               tiles = static_cast<double>(divide_up(problem.channels, kChannelTile)),
               bytes = static_cast<double>(bytes_of(problem.type));
  const double inputs = values * directions * (form_of(problem) == Form::given ? 2 : 1) * bytes,
               rows = positions * directions * static_cast<double>(problem.rank + 2 * problem.states) * bytes,
               outputs = values * static_cast<double>(outputs_of(problem)) * (problem.is_gated ? 2 : 1) * bytes;
  const bool has_sums = subscans_of_output(problem) > 1 && !plan.sums_in_shared;
  const double sums = has_sums ? 2 * 4 * values * static_cast<double>(outputs_of(problem)) : 0;
  const double through_cache = walks * (inputs + rows * tiles) + outputs + sums;
  // What the operator before has left in the cache need not come from memory, unless it is so much that it is gone.
  const double all = inputs + rows + outputs + sums / 2;
  const double from_memory = std::clamp(all / static_cast<double>(device.cache_bytes) - 0.5, 0.0, 1.0);
  const double bytes_per_clock =
      kOfBandwidth * 1000 * static_cast<double>(device.memory_mb_per_s) / static_cast<double>(device.clock_khz);
  return {through_cache / (kCacheBytes * static_cast<double>(device.multiprocessors)),
          from_memory * (walks * (inputs + rows) + outputs + sums) / bytes_per_clock};
}

}  // namespace

int64_t groups_of(const SelectiveScanProblem& problem) { return thread_groups_of(subscans_of_output(problem)); }

int64_t blocks_per_chunk(const SelectiveScanProblem& problem) {
  return outputs_of(problem) * problem.batch * divide_up(problem.channels, kChannelTile);
}

int64_t blocks_in_registers(const SelectiveScanProblem& problem, int64_t groups, int64_t channels_per_thread) {
  const auto channels = static_cast<int>(channels_per_thread);
  return resident_threads(state_group_of(problem.states), channels) / (groups * group_threads(channels));
}

int64_t resident_blocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                        const CudaFacts& device) {
  const auto bytes = static_cast<int64_t>(plan.shared_bytes);
  if (bytes > device.shared_bytes_per_block) return 0;
  return std::min(blocks_in_registers(problem, groups_of(problem), plan.channels_per_thread),
                  device.shared_bytes_per_multiprocessor / (bytes + kReservedShared));
}

double expected_clocks(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan,
                       const CudaFacts& device) {
  if (plan.chunks == 0) return 0;
  const int64_t channels = plan.channels_per_thread, group = group_threads(static_cast<int>(channels)),
                threads = groups_of(problem) * group, blocks = blocks_per_chunk(problem) * plan.chunks,
                resident = std::max<int64_t>(1, resident_blocks(problem, plan, device));
  const auto passes = static_cast<double>(divide_up(subscans_of_output(problem), kThreadGroups)),
             tokens = static_cast<double>(plan.chunk_tokens), chunks = static_cast<double>(plan.chunks);
  const double start = kBlockStart + kRankStart * static_cast<double>(problem.rank);
  const auto cost_of = [&](Walk walk) { return token_cost(walk, problem, channels, device); };
  const auto output = [&](double more) {
    return passes * walk_clocks(cost_of(Walk::output), tokens, start + more, blocks, threads, resident, device);
  };
  const auto summary = [&] {
    const int64_t summaries = blocks / plan.chunks * (plan.chunks - 1) * subscans_of_output(problem);
    return walk_clocks(cost_of(Walk::summary), tokens, start, summaries, group,
                       blocks_in_registers(problem, 1, channels), device);
  };
  double launches = 1, clocks = 0;
  switch (plan.schedule) {
    case Schedule::sequences:
      clocks = output(0);
      break;
    case Schedule::cluster: {
      // Every state is read and written once, with a step size for every chunk that it is carried through.
      const int64_t rows = 2 * plan.state_group + std::max(plan.state_group, plan.chunks),
                    here = std::min(resident, divide_up(blocks, device.multiprocessors));
      const double more = kWalkAgain + 2 * kClusterBarrier + static_cast<double>(4 * rows * threads * here) / kClusterBytes;
      clocks = passes * walk_clocks(cost_of(Walk::cluster), 2 * tokens, start + more, blocks, threads, resident, device);
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
  const ByteClocks bytes = byte_clocks(problem, plan, device);
  return launches * kLaunch + at_once({clocks, bytes.cache, bytes.memory});
}

double expected_us(const SelectiveScanProblem& problem, const SelectiveScanCudaPlan& plan, const CudaFacts& device) {
  return expected_clocks(problem, plan, device) * 1000 / static_cast<double>(device.clock_khz);
}

}  // namespace vimdeploy::cuda
