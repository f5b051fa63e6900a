// A second thread that waits in a busy loop, like those of an inference runtime, so that a short task does not include
// the start of a thread.

#pragma once

#include <atomic>
#include <cstddef>
#include <thread>

#include "scan/cpu/parallel_for.h"

namespace vimdeploy::benchmarks {

class Worker {
 public:
  Worker() : thread_([this] { serve(); }) {}
  ~Worker() {
    is_over_ = true;
    thread_.join();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Gives half of the tasks to the worker and runs the others itself. For one caller at a time.
  ParallelFor parallel_for() {
    return {this, [](void* host, size_t count, void (*task)(void*, size_t), void* user) {
              auto& self = *static_cast<Worker*>(host);
              self.task_ = task;
              self.user_ = user;
              self.count_ = count;
              self.is_given_.store(true, std::memory_order_release);
              for (size_t i = 0; i < count; i += 2) task(user, i);
              while (self.is_given_.load(std::memory_order_acquire)) continue;
            }};
  }

 private:
  void serve() {
    while (!is_over_) {
      if (!is_given_.load(std::memory_order_acquire)) continue;
      for (size_t i = 1; i < count_; i += 2) task_(user_, i);
      is_given_.store(false, std::memory_order_release);
    }
  }

  void (*task_)(void*, size_t) = nullptr;
  void* user_ = nullptr;
  size_t count_ = 0;
  std::atomic<bool> is_given_{false}, is_over_{false};
  std::thread thread_;
};

}  // namespace vimdeploy::benchmarks
