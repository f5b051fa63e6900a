// A block of tokens: where its tensors are in memory, and the prefetch of the next block, for every instruction set
// (included once for each).

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

// A tensor's elements for one vector of channels and the tokens of a block, in the order of the scan.
template <typename U>
struct Strided {
  U* first;
  int64_t stride;  // elements from a token to the next one; negative in a reversed direction

  HWY_INLINE U* at(int64_t token) const { return first + token * stride; }
};

template <typename U>
HWY_INLINE Strided<U> strided(U* first, int64_t stride) {
  return {first, stride};
}

// Into the L2 cache: L1 would lose it again before it is used.
HWY_INLINE void prefetch(const void* address) {
#if defined(__GNUC__)
  __builtin_prefetch(address, 0, 2);
#else
  hwy::Prefetch(address);
#endif
}

// Tokens of one direction and `count` channels from channel c of the task on. Functions copy the members that they need
// into locals, because the compiler must assume that a store changes what a reference points to.
template <typename T>
struct Block {
  int64_t tokens;
  bool is_first_direction, is_last_direction;
  bool streams;                // sums for the next direction are written by non-temporal stores
  Strided<const float> low_rank, B, C;
  int64_t c;
  size_t count;  // lanes of a vector, or fewer
  Strided<const T> u;
  Strided<const T> delta;  // if the rank is 0
  Strided<const T> z;      // if there is a gate
  Strided<T> y;
  Strided<float> sum;  // over the directions so far
};

// Prefetches the rows of the next block while a block is computed, one vector for each token and vector of channels:
// row by row and each from end to end, so that the hardware prefetcher helps. Without it a token took 25 % longer at
// L = 6085.
template <typename T>
class Prefetcher {
 public:
  HWY_INLINE Prefetcher(const Task& task, const Block<T>& block, const Block<T>& next_tokens)
      : channels_(task.channels),
        with_delta_(task.problem.rank == 0),
        with_sum_(task.problem.is_gated && !(block.is_first_direction && block.streams)),
        with_z_(task.problem.is_gated && block.is_last_direction) {
    const int64_t vectors = (channels_ + kLanes - 1) / kLanes, done = block.c / kLanes * block.tokens;
    const int64_t token = HWY_MIN(done / vectors, next_tokens.tokens - 1);
    tokens_left_ = next_tokens.tokens - 1 - token;
    channel_ = done % vectors * kLanes;
    u_ = {next_tokens.u.at(token), next_tokens.u.stride};
    delta_ = {next_tokens.delta.at(token), next_tokens.delta.stride};
    z_ = {next_tokens.z.at(token), next_tokens.z.stride};
    sum_ = {next_tokens.sum.at(token), next_tokens.sum.stride};
  }

  HWY_INLINE void fetch() {
    prefetch(u_.first + channel_);
    if (with_delta_) prefetch(delta_.first + channel_);
    if (with_sum_) prefetch(sum_.first + channel_);
    if (with_z_) prefetch(z_.first + channel_);
    channel_ += kLanes;
    if (HWY_UNLIKELY(channel_ >= channels_)) {
      channel_ = 0;
      if (tokens_left_-- > 0) {
        u_.first += u_.stride, delta_.first += delta_.stride, z_.first += z_.stride, sum_.first += sum_.stride;
      }
    }
  }

 private:
  int64_t channels_, tokens_left_, channel_;
  bool with_delta_, with_sum_, with_z_;
  Strided<const T> u_, delta_, z_;
  Strided<float> sum_;
};

}  // namespace HWY_NAMESPACE
}  // namespace vimdeploy
HWY_AFTER_NAMESPACE();

#endif  // VIMDEPLOY_SCAN_CPU_TOKEN_BLOCK_INL_H_
