// The tasks of a kernel, as its plan divides them, run on the host's threads.

#pragma once

#include <algorithm>

#include "scan/cpu/parallel_for.h"
#include "scan/cpu/plan.h"

namespace vimdeploy {

// What a task works on: a sequence (of the batch, or of the batch and the groups), `channels` channels from `channel`
// on, a slot of the scratch.
template <typename Problem, typename Plan, typename Tensors>
struct TaskOf {
  const Problem& problem;
  const Plan& plan;
  const Tensors& tensors;
  int64_t sequence, channel, channels;
  float* slot;
};

// Calls body(task) for every task of the plan.
template <typename Problem, typename Plan, typename Tensors, typename Body>
void run_tasks(const Problem& problem, const Plan& plan, const Tensors& tensors, void* scratch,
               ParallelFor parallel_for, Body body) {
  float* slots = aligned_scratch(scratch);
  for_each_task(parallel_for, plan.slots, plan.tasks, [&](int64_t slot, int64_t index) {
    const int64_t channel = index % plan.channel_blocks * plan.channel_block;
    const int64_t channels = std::min(plan.channel_block, problem.channels - channel);
    body(TaskOf<Problem, Plan, Tensors>{problem, plan, tensors, index / plan.channel_blocks, channel, channels,
                                        slots + slot * plan.slot_floats});
  });
}

}  // namespace vimdeploy
