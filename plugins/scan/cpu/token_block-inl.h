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
  bool streams;  // sums for the next direction are written by non-temporal stores
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
      : channels_(task.channels) {
    const int64_t vectors = (channels_ + kLanes - 1) / kLanes, done = block.c / kLanes * block.tokens;
    const int64_t token = HWY_MIN(done / vectors, next_tokens.tokens - 1);
    tokens_left_ = next_tokens.tokens - 1 - token;
    channel_ = done % vectors * kLanes;
    const bool is_alone = block.is_first_direction && block.is_last_direction;
    const bool with_sum = !is_alone && !(block.is_first_direction && block.streams);
    add(next_tokens.u, token);
    if (task.problem.rank == 0) add(next_tokens.delta, token);
    if (with_sum) add(next_tokens.sum, token);
    if (task.problem.is_gated && block.is_last_direction) add(next_tokens.z, token);
  }

  HWY_INLINE void fetch() {
    for (int i = 0; i < tensors_; ++i) prefetch(rows_[i] + channel_ * bytes_[i]);
    channel_ += kLanes;
    if (HWY_UNLIKELY(channel_ >= channels_)) {
      channel_ = 0;
      if (tokens_left_-- > 0) {
        for (int i = 0; i < tensors_; ++i) rows_[i] += strides_[i];
      }
    }
  }

 private:
  template <typename U>
  HWY_INLINE void add(const Strided<U>& rows, int64_t token) {
    constexpr int64_t kBytes = sizeof(U);
    rows_[tensors_] = reinterpret_cast<const char*>(rows.at(token));
    strides_[tensors_] = rows.stride * kBytes;
    bytes_[tensors_++] = kBytes;
  }

  int64_t channels_, tokens_left_, channel_;
  int tensors_ = 0;
  const char* rows_[4];
  int64_t strides_[4], bytes_[4];
};

}  // namespace HWY_NAMESPACE
}  // namespace vimdeploy
HWY_AFTER_NAMESPACE();

#endif  // VIMDEPLOY_SCAN_CPU_TOKEN_BLOCK_INL_H_
