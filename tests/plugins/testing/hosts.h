// Hosts to run kernels in: threads in any order, and memory that detects writes past its ends.

#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <thread>
#include <vector>

#include "scan/cpu/parallel_for.h"

namespace vimdeploy::testing {

// One thread for each index, all at the same time.
inline ParallelFor threaded_for() {
  return {nullptr, [](void*, size_t count, void (*task)(void*, size_t), void* user) {
            std::vector<std::thread> threads;
            for (size_t i = 0; i < count; ++i) threads.emplace_back(task, user, i);
            for (std::thread& thread : threads) thread.join();
          }};
}

// Memory between two guard strips, filled with NaN, which shows reads of uninitialized memory. By default it is not
// aligned to a vector.
class GuardedMemory {
 public:
  explicit GuardedMemory(size_t bytes, size_t strip = kUnaligned)
      : bytes_(strip + bytes + strip, kUntouched), size_(bytes), strip_(strip) {
    std::fill_n(data(), bytes, kNaN);
  }

  static constexpr size_t kUnaligned = 1028;  // a multiple of 4 and of no vector's size
  static constexpr size_t kAligned = 1024;    // as aligned as what CUDA gives

  unsigned char* data() { return bytes_.data() + strip_; }
  size_t size() const { return size_; }

  bool is_intact() const {
    const auto is_untouched = [](unsigned char byte) { return byte == kUntouched; };
    const auto strip = static_cast<std::ptrdiff_t>(strip_);
    return std::all_of(bytes_.begin(), bytes_.begin() + strip, is_untouched) &&
           std::all_of(bytes_.end() - strip, bytes_.end(), is_untouched);
  }

 private:
  static constexpr unsigned char kUntouched = 0xab;
  static constexpr unsigned char kNaN = 0xff;
  std::vector<unsigned char> bytes_;
  size_t size_, strip_;
};

}  // namespace vimdeploy::testing
