#include "scan/cpu/parallel_for.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "testing/hosts.h"

namespace vimdeploy {
namespace {

void expect_every_task_once(ParallelFor host, int64_t slots, int64_t tasks) {
  std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
  std::vector<std::atomic<bool>> is_busy(static_cast<size_t>(slots));
  std::atomic<int> collisions{0};
  for_each_task(host, slots, tasks, [&](int64_t slot, int64_t task) {
    if (is_busy[static_cast<size_t>(slot)].exchange(true)) ++collisions;
    ++runs[static_cast<size_t>(task)];
    is_busy[static_cast<size_t>(slot)] = false;
  });
  for (int64_t i = 0; i < tasks; ++i) EXPECT_EQ(runs[static_cast<size_t>(i)], 1) << "task " << i;
  EXPECT_EQ(collisions, 0);
}

TEST(ForEachTask, RunsEveryTaskOnceAndASlotForOneTaskAtATime) {
  for (int64_t slots : {1, 2, 7}) {
    for (int64_t tasks : {1, 6, 100}) {
      expect_every_task_once(serial_for(), slots, tasks);
      expect_every_task_once(testing::threaded_for(), slots, tasks);
    }
  }
}

}  // namespace
}  // namespace vimdeploy
