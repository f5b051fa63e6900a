// The host's threads, as the kernels see them. Kernels start no threads of their own.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace vimdeploy {

// Calls task(user, i) for every i below count, in any order and on any thread, and returns when all are done.
struct ParallelFor {
  void* host;
  void (*run)(void* host, size_t count, void (*task)(void* user, size_t index), void* user);
};

inline ParallelFor serial_for() {
  return {nullptr, [](void*, size_t count, void (*task)(void*, size_t), void* user) {
            for (size_t i = 0; i < count; ++i) task(user, i);
          }};
}

// Calls body(slot, task) for every task below `tasks`. A slot is a part of the scratch: it runs one task at a time,
// first the task with its own number, whose data may still be in its core's cache from the last call, then the next one
// that has not begun. So all tasks are done however many threads the host runs the slots on.
template <typename Body>
void for_each_task(ParallelFor parallel_for, int64_t slots, int64_t tasks, Body body) {
  struct Shared {
    Body& body;
    int64_t tasks;
    std::atomic<int64_t> next;
  } shared{body, tasks, {slots}};
  const auto run_slot = [](void* user, size_t slot) {
    Shared& s = *static_cast<Shared*>(user);
    for (auto task = static_cast<int64_t>(slot); task < s.tasks;
         task = s.next.fetch_add(1, std::memory_order_relaxed)) {
      s.body(static_cast<int64_t>(slot), task);
    }
  };
  parallel_for.run(parallel_for.host, static_cast<size_t>(slots), run_slot, &shared);
}

}  // namespace vimdeploy
