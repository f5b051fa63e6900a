// Where the tensors of a block of tokens lie, for every instruction set (included once for each): what
// selective_scan_block-inl.h works on, and the fetching of what it works on next.

#if defined(VIMDEPLOY_SCAN_CPU_TOKEN_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef VIMDEPLOY_SCAN_CPU_TOKEN_BLOCK_INL_H_
#undef VIMDEPLOY_SCAN_CPU_TOKEN_BLOCK_INL_H_
#else
#define VIMDEPLOY_SCAN_CPU_TOKEN_BLOCK_INL_H_
#endif

#include <cstdint>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "scan/cpu/rows-inl.h"
#include "scan/cpu/task.h"
#include "scan/problem.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {

using Task = TaskOf<SelectiveScanProblem, SelectiveScanPlan, SelectiveScanTensors>;

// One vector of channels of a block's tokens, in the order of the scan.
template <typename U>
struct Column {
  U* first;
  int64_t row;  // elements from a token to the next: negative in a reversed direction

  HWY_INLINE U* at(int64_t token) const { return first + token * row; }
};

// To the second-level cache: the first loses it again before it is used.
HWY_INLINE void prefetch(const void* address) {
#if defined(__GNUC__)
  __builtin_prefetch(address, 0, 2);
#else
  hwy::Prefetch(address);
#endif
}

// Tokens of one direction and `count` channels from channel c of the task on. Functions copy what they need of it, for
// a store may change what lies behind a reference, as far as the compiler knows.
template <typename T>
struct Block {
  int64_t tokens;
  bool is_first_direction, is_last_direction;
  bool streams;               // sums for the next direction go past the caches
  Column<const float> dt_bc;  // R+2N elements
  int64_t c;
  size_t count;  // a vector's lanes or fewer
  Column<const T> u, z;
  Column<T> y;
  Column<float> sum;  // over the directions so far
};

// Fetches, while the vectors of some tokens are worked on, the rows that the next tokens will be read from, a vector of
// them for each token of a vector: row by row and each from end to end, for so the processor's own prefetcher helps.
// Without it a token took 25 % longer at L = 6085.
template <typename T>
class Ahead {
 public:
  HWY_INLINE Ahead(const Task& task, const Block<T>& block, const Block<T>& next_tokens)
      : channels_(task.channels),
        with_sum_(!(block.is_first_direction && block.streams)),
        with_z_(block.is_last_direction) {
    const int64_t vectors = (channels_ + kLanes - 1) / kLanes, done = block.c / kLanes * block.tokens;
    const int64_t token = HWY_MIN(done / vectors, next_tokens.tokens - 1);
    left_ = next_tokens.tokens - 1 - token;
    channel_ = done % vectors * kLanes;
    u_ = {next_tokens.u.at(token), next_tokens.u.row};
    z_ = {next_tokens.z.at(token), next_tokens.z.row};
    sum_ = {next_tokens.sum.at(token), next_tokens.sum.row};
  }

  HWY_INLINE void fetch() {
    prefetch(u_.first + channel_);
    if (with_sum_) prefetch(sum_.first + channel_);
    if (with_z_) prefetch(z_.first + channel_);
    channel_ += kLanes;
    if (HWY_UNLIKELY(channel_ >= channels_)) {
      channel_ = 0;
      if (left_-- > 0) u_.first += u_.row, z_.first += z_.row, sum_.first += sum_.row;
    }
  }

 private:
  int64_t channels_, left_, channel_;
  bool with_sum_, with_z_;
  Column<const T> u_, z_;
  Column<float> sum_;
};

}  // namespace HWY_NAMESPACE
}  // namespace vimdeploy
HWY_AFTER_NAMESPACE();

#endif  // VIMDEPLOY_SCAN_CPU_TOKEN_BLOCK_INL_H_
