// The operators, as vimdeploy/ops/contract.py defines them, without any framework: sizes and pointers.
//
//   B  batch                      E  channels inside a block (expand x dim)
//   L  tokens                     N  states of a channel
//   K  directions (2 for Vim)     R  rank of the step size
//   W  width of the convolution
//
// Tensors are dense and token-major. T is one of kElementTypes, the same for the whole problem.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "scan/element.h"
#include "support/status.h"

namespace vimdeploy {

// Domain in ONNX models, and namespace of the TensorRT plugins.
inline constexpr const char* kDomain = "vimdeploy";
inline constexpr int kOperatorsVersion = 1;
inline constexpr const char* kConv1dName = "BidirectionalConv1d";
inline constexpr const char* kSelectiveScanName = "BidirectionalSelectiveScan";

struct Conv1dProblem {
  ElementType type = ElementType::float32;
  int64_t batch = 0;             // B
  int64_t tokens = 0;            // L
  int64_t channels = 0;          // E
  int64_t width = 0;             // W
  std::vector<int64_t> reverse;  // K flags: 1 reads the tokens last to first

  int64_t directions() const { return static_cast<int64_t>(reverse.size()); }
};

struct Conv1dTensors {
  const void* xz;      // (B, L, 2E) T
  const void* weight;  // (K, E, W) T
  const void* bias;    // (K, E) T
  void* u;             // (K, B, L, E) T
};

struct SelectiveScanProblem {
  ElementType type = ElementType::float32;
  int64_t batch = 0;             // B
  int64_t tokens = 0;            // L
  int64_t channels = 0;          // E
  int64_t states = 0;            // N
  int64_t rank = 0;              // R
  std::vector<int64_t> reverse;  // K flags: 1 scans the tokens last to first
  float scale = 1.0f;            // factor on the sum of the directions

  int64_t directions() const { return static_cast<int64_t>(reverse.size()); }
};

struct SelectiveScanTensors {
  const void* u;          // (K, B, L, E) T
  const void* xz;         // (B, L, 2E) T
  const void* dt_bc;      // (K, B, L, R+2N) T
  const void* dt_weight;  // (K, E, R) T
  const float* dt_bias;   // (K, E) float32
  const float* A;         // (K, E, N) float32
  const float* D;         // (K, E) float32
  void* y;                // (B, L, E) T
};

// One flag (0 or 1) per direction.
Status check_reverse(const char* op, const std::vector<int64_t>& reverse);

// Whether the operator is defined for these sizes; empty tensors (B or L of 0) are allowed.
Status check(const Conv1dProblem& problem);
Status check(const SelectiveScanProblem& problem);

}  // namespace vimdeploy
