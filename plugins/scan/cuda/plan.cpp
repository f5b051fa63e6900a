#include "scan/cuda/plan.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <map>
#include <sstream>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "scan/cuda/layout.h"
#include "scan/cuda/time_model.h"

namespace vimdeploy {
namespace {

// Chunks beyond two full waves of blocks only make the serial carry longer.
constexpr int64_t kMaxWaves = 2;
// Alignment of the workspace's parts, in bytes.
constexpr size_t kAlignment = 256;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

size_t aligned(int64_t floats) {
  return (static_cast<size_t>(floats) * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
}

int64_t floats_of_sums(const SelectiveScanProblem& problem) {
  return cuda::blocks_per_chunk(problem) * cuda::kChannelTile * cuda::tokens_of_sums(problem.tokens);
}

// The ends of that many chunks of every subscan.
int64_t floats_of_ends(const SelectiveScanProblem& problem, int64_t chunks) {
  return cuda::blocks_per_chunk(problem) * cuda::subscans_of_output(problem) * chunks *
         cuda::end_floats(cuda::state_group_of(problem.states));
}

// Whether the device can launch the plan. One with its sums in the workspace and without a cluster fits every device
// that check() lets pass.
bool can_launch(const SelectiveScanCudaPlan& plan, const CudaFacts& device) {
  if (plan.schedule == Schedule::cluster && plan.chunks > device.largest_cluster) return false;
  return static_cast<int64_t>(plan.shared_bytes) <= device.shared_bytes_per_block;
}

// Indices within a sequence, and within a tile of a tensor whose rows are 2E long, are 32-bit; the directions' flags
// are the bits of a 64-bit number.
constexpr int64_t kMaxExtent = std::numeric_limits<int32_t>::max() / (2 * cuda::kTokenTile);
constexpr int64_t kMaxDirections = 64;
constexpr int64_t kMaxThreads = std::numeric_limits<uint32_t>::max() - cuda::kThreads;

Status check_at_most(const char* op, const char* what, int64_t found, int64_t most) {
  if (found <= most) return {};
  return Status::error(std::string(op) + ": " + what + " is " + std::to_string(found) +
                       ", the CUDA kernels take at most " + std::to_string(most) + " here; run this model on the CPU");
}

template <typename Problem>
Status check_common(const Problem& problem) {
  const char* op = problem.name;
  if (Status s = check_at_most(op, "K (directions)", problem.directions(), kMaxDirections); !s.ok()) return s;
  if (Status s = check_at_most(op, "B (batch)", problem.batch, kMaxExtent); !s.ok()) return s;
  if (Status s = check_at_most(op, "L (tokens)", problem.tokens, kMaxExtent); !s.ok()) return s;
  return check_at_most(op, "E (channels)", problem.channels, kMaxExtent);
}

}  // namespace

CudaFacts facts_to_plan_with(const CudaFacts& built, const CudaFacts& here) {
  CudaFacts facts = here;
  facts.multiprocessors = built.multiprocessors;
  for (auto fact :
       {&CudaFacts::shared_bytes_per_multiprocessor, &CudaFacts::shared_bytes_per_block, &CudaFacts::largest_cluster}) {
    facts.*fact = std::min(built.*fact, here.*fact);
  }
  return facts;
}

Status check(const Conv1dProblem& problem, const CudaFacts&) {
  if (Status s = check_common(problem); !s.ok()) return s;
  if (Status s = check_at_most(problem.name, "W (width)", problem.width, kMaxExtent); !s.ok()) return s;
  // Indices within a run of tokens are 32-bit.
  if (Status s = check_at_most(problem.name, "X (channels of x)", problem.row, 2 * kMaxExtent); !s.ok()) return s;
  // Thread indices are 32-bit: one thread for each run of eight tokens of a channel.
  const int64_t runs = problem.batch * divide_up(problem.tokens, cuda::kTokenTile);
  return check_at_most(problem.name, "B * L / 8 (runs of tokens)", runs, kMaxThreads / problem.channels);
}

Status check(const SelectiveScanProblem& problem, const CudaFacts& device) {
  const char* op = problem.name;
  if (Status s = check_common(problem); !s.ok()) return s;
  if (Status s = check_at_most(op, "N (states)", problem.states, kMaxExtent / kMaxDirections); !s.ok()) return s;
  // The weights of the low rank of the step sizes are kept in shared memory, kInner ranks at a time or one by one.
  const int64_t groups = cuda::thread_groups_of(cuda::subscans_of_output(problem)), bytes = bytes_of(problem.type);
  const int64_t at_once = cuda::multiplies_by_warp(bytes) ? cuda::kInner : 1,
                floats = device.shared_bytes_per_block / 4;
  const auto floats_with = [&](int64_t steps) {
    return cuda::shared_layout(groups, bytes, steps * at_once, 0, 0).floats;
  };
  const int64_t most_steps = 2 + (floats - floats_with(2)) / (floats_with(3) - floats_with(2));
  return check_at_most(op, "R (rank)", problem.rank, most_steps * at_once);
}

SelectiveScanCudaPlan cuda_plan_with(const SelectiveScanProblem& problem, Schedule schedule, int64_t chunks,
                                     bool sums_in_shared, int64_t channels_per_thread) {
  SelectiveScanCudaPlan plan;
  plan.name = problem.name;
  if (problem.batch == 0 || problem.tokens == 0) return plan;
  const int64_t summands = cuda::subscans_of_output(problem);
  const int state_group = cuda::state_group_of(problem.states);
  plan.channel_tile = cuda::kChannelTile;
  plan.state_group = state_group;
  const int64_t most_chunks = schedule == Schedule::sequences ? 1 : chunks;
  plan.chunk_tokens = divide_up(divide_up(problem.tokens, most_chunks), cuda::kTokenTile) * cuda::kTokenTile;
  plan.chunks = divide_up(problem.tokens, plan.chunk_tokens);
  plan.schedule = plan.chunks > 1 ? schedule : Schedule::sequences;
  plan.channels_per_thread =
      plan.schedule == Schedule::cluster
          ? 1  // there are few blocks, which two channels would make fewer
          : std::min<int64_t>(channels_per_thread, cuda::most_channels_per_thread(state_group, problem.channels));
  plan.sums_in_shared = sums_in_shared && summands > 1;

  const int64_t groups = cuda::thread_groups_of(summands);
  const int64_t tokens_of_sums = plan.sums_in_shared ? plan.chunk_tokens : 0;
  const int64_t ends = plan.schedule == Schedule::cluster ? cuda::end_floats(state_group) : 0;
  const int64_t shared_floats =
      cuda::shared_layout(groups, bytes_of(problem.type), problem.rank, ends, tokens_of_sums).floats;
  plan.shared_bytes = static_cast<size_t>(shared_floats) * sizeof(float);

  const bool is_launched_again = plan.schedule == Schedule::two_launches || plan.schedule == Schedule::three_launches;
  const bool has_sums = summands > 1 && !sums_in_shared;
  plan.sums = plan.ends + aligned(is_launched_again ? floats_of_ends(problem, plan.chunks) : 0);
  plan.workspace_bytes = plan.sums + aligned(has_sums ? floats_of_sums(problem) : 0);
  return plan;
}

namespace {

SelectiveScanCudaPlan fastest_plan(const SelectiveScanProblem& problem, const CudaFacts& device,
                                   std::optional<Schedule> wanted) {
  SelectiveScanCudaPlan best = cuda_plan_with(problem, Schedule::sequences, 1, false, 1);
  if (best.chunks == 0) return best;
  const cuda::TimeModel time(problem, device);
  std::optional<double> best_clocks;
  // The sums are in shared memory unless it then holds fewer blocks than there could be; then both are tried.
  const auto consider = [&](Schedule schedule, int64_t chunks, int64_t channels_per_thread) {
    const int64_t in_registers = cuda::blocks_in_registers(problem, cuda::groups_of(problem), channels_per_thread);
    for (bool sums_in_shared : {true, false}) {
      const auto plan = cuda_plan_with(problem, schedule, chunks, sums_in_shared, channels_per_thread);
      if (plan.channels_per_thread != channels_per_thread) return;
      if (can_launch(plan, device)) {
        const double clocks = time.clocks(plan);
        const bool is_wanted = plan.schedule == wanted, is_best_wanted = best.schedule == wanted;
        if (!best_clocks || (is_wanted == is_best_wanted ? clocks < *best_clocks : is_wanted)) {
          best = plan;
          best_clocks = clocks;
        }
      }
      const int64_t blocks = divide_up(cuda::blocks_per_chunk(problem) * plan.chunks, device.multiprocessors);
      if (cuda::resident_blocks(problem, plan, device) >= std::min(blocks, in_registers)) return;
    }
  };
  for (int64_t channels_per_thread : {1, 2}) consider(Schedule::sequences, 1, channels_per_thread);
  if (wanted == Schedule::sequences) return best;
  // Candidates are 2, 3, 4, 6, 8, 12 ... chunks, as many as fill the device once or twice, and as many as there can be.
  for (int64_t channels_per_thread : {1, 2}) {
    const int64_t wave =
        device.multiprocessors * cuda::blocks_in_registers(problem, cuda::groups_of(problem), channels_per_thread);
    const int64_t tiles = divide_up(problem.tokens, cuda::kTokenTile), per_chunk = cuda::blocks_per_chunk(problem);
    const int64_t most = std::min(tiles, std::max<int64_t>(2, divide_up(kMaxWaves * wave, per_chunk)));
    const auto consider_all = [&](int64_t chunks) {
      if (chunks < 2 || chunks > most) return;
      for (Schedule schedule : {Schedule::cluster, Schedule::two_launches, Schedule::three_launches}) {
        consider(schedule, chunks, channels_per_thread);
      }
    };
    for (int64_t power = 2; power <= most; power *= 2) {
      consider_all(power);
      consider_all(power / 2 * 3);
    }
    for (int64_t waves = 1; waves <= kMaxWaves; ++waves) consider_all(waves * wave / per_chunk);
    consider_all(tiles);
  }
  return best;
}

// All that a plan depends on.
using Question = std::tuple<std::string_view, ElementType, std::array<int64_t, 6>, bool,
                            std::array<unsigned char, sizeof(CudaFacts)>, std::optional<Schedule>>;

Question question_of(const SelectiveScanProblem& p, const CudaFacts& device, std::optional<Schedule> wanted) {
  static_assert(std::has_unique_object_representations_v<CudaFacts>, "its bytes are compared");
  std::array<unsigned char, sizeof device> facts;
  std::memcpy(facts.data(), &device, sizeof device);
  return {p.name, p.type, {p.batch, p.tokens, p.channels, p.states, p.rank, p.directions()}, p.is_gated, facts, wanted};
}

}  // namespace

// Operators ask at every call, and a network's layers ask the same: remembering costs a hundredth of planning.
SelectiveScanCudaPlan cuda_plan_of(const SelectiveScanProblem& problem, const CudaFacts& device,
                                   std::optional<Schedule> wanted) {
  constexpr size_t kMostKnown = 64;
  thread_local std::map<Question, SelectiveScanCudaPlan> known;
  const Question question = question_of(problem, device, wanted);
  const auto found = known.find(question);
  if (found != known.end()) return found->second;
  if (known.size() == kMostKnown) known.clear();
  return known[question] = fastest_plan(problem, device, wanted);
}

size_t workspace_bound(const SelectiveScanProblem& largest, const CudaFacts& device) {
  size_t most = 0;
  for (int state_group : cuda::kStateGroups) {  // smaller ones, too, for a problem with fewer states
    SelectiveScanProblem problem = largest;
    problem.states = std::min<int64_t>(largest.states, state_group);
    if (cuda::state_group_of(largest.states) == state_group) problem.states = largest.states;
    // All outputs together have no more chunks than a plan has blocks, and each no more than it has tiles of tokens.
    const int64_t full_wave = device.multiprocessors * cuda::blocks_in_registers(problem, 1, 1);
    const int64_t blocks = kMaxWaves * full_wave + 2 * cuda::blocks_per_chunk(problem);
    const int64_t tiles = divide_up(largest.tokens, cuda::kTokenTile);
    const int64_t per_block = cuda::subscans_of_output(problem) * cuda::end_floats(state_group);
    most = std::max(most, aligned(std::min(blocks * per_block, floats_of_ends(problem, tiles))));
    if (problem.states == largest.states) break;
  }
  return most + aligned(floats_of_sums(largest));
}

std::string SelectiveScanCudaPlan::to_string() const {
  std::ostringstream text;
  text << name << " on CUDA: ";
  if (chunks == 0) {
    text << "nothing to do";
  } else if (chunks == 1) {
    text << "whole sequences of " << chunk_tokens << " tokens";
  } else {
    const char* schedules[] = {"", "one launch of clusters", "two launches", "three launches"};
    text << chunks << " chunks of " << chunk_tokens << " tokens in " << schedules[static_cast<int>(schedule)];
  }
  if (chunks == 0) return text.str();
  text << ", " << channel_tile << " channels, " << (channels_per_thread == 2 ? "two for each thread, " : "")
       << state_group << (state_group == 1 ? " state" : " states") << " and " << shared_bytes
       << " bytes of shared memory a block, " << workspace_bytes << " bytes of workspace";
  if (sums_in_shared) text << ", sums in shared memory";
  return text.str();
}

}  // namespace vimdeploy
