// The operators, as vimdeploy/ops/contract.py defines them, without any framework: sizes and pointers.
//
//   B  batch                           E  channels inside a block (expand x dim)
//   L  tokens                          N  states of a channel
//   K  directions (2 for Vim)          R  rank of the step size
//   G  groups, each scanned alone      W  width of the convolution
//   X  channels of a token of x, of which the first E are read
//
// Five operators, two problems: both convolutions are one Conv1dProblem, all three scans are one SelectiveScanProblem.
// operators.h says how. Tensors are dense and token-major. T is one of kElementTypes, the same for the whole problem.

#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "scan/element.h"
#include "support/status.h"

namespace vimdeploy {

// Domain in ONNX models, and namespace of the TensorRT plugins.
inline constexpr const char* kDomain = "vimdeploy";
inline constexpr int kOperatorsVersion = 1;
inline constexpr const char* kBidirectionalConv1dName = "BidirectionalConv1d";
inline constexpr const char* kBidirectionalScanName = "BidirectionalSelectiveScan";
inline constexpr const char* kCausalConv1dName = "CausalConv1d";
inline constexpr const char* kSelectiveScanName = "SelectiveScan";
inline constexpr const char* kLowRankScanName = "LowRankSelectiveScan";

// u[k] = silu(bias + sum_w weight[w] * x[l - W + 1 + w]) for every direction k.
struct Conv1dProblem {
  ElementType type = ElementType::float32;
  int64_t batch = 0;                            // B
  int64_t tokens = 0;                           // L
  int64_t channels = 0;                         // E
  int64_t width = 0;                            // W
  std::vector<int64_t> reverse;                 // K flags: 1 reads the tokens last to first
  int64_t row = 2 * channels;                   // X: 2E for BidirectionalConv1d, whose x stands before z
  int64_t silu = 1;                             // 1, or 0: u is the sum itself
  const char* name = kBidirectionalConv1dName;  // of the operator, for messages

  int64_t directions() const { return static_cast<int64_t>(reverse.size()); }
};

struct Conv1dTensors {
  const void* x;       // (B, L, X) T
  const void* weight;  // (K, E, W) T
  const void* bias;    // (K, E) T
  void* u;             // (K, B, L, E) T
};

// For every direction k (for every group, in SelectiveScan and LowRankSelectiveScan):
// h = exp(dt * A) * h + dt * B * u; y_k = sum_n C * h + D * u; and if is_gated, y = scale * silu(z) * sum_k y_k.
struct SelectiveScanProblem {
  ElementType type = ElementType::float32;
  int64_t batch = 0;                          // B
  int64_t tokens = 0;                         // L
  int64_t channels = 0;                       // E
  int64_t states = 0;                         // N
  int64_t rank = 0;                           // R: dt = delta_bias + sum_r delta_weight * delta; 0: + delta itself
  std::vector<int64_t> reverse;               // K or G flags: 1 scans the tokens last to first
  float scale = 1.0f;                         // factor on the sum of the directions, if is_gated
  int64_t delta_softplus = 1;                 // 1: dt goes through softplus, or 0
  bool is_gated = true;                       // the directions are summed and gated; else each has a y of its own
  const char* name = kBidirectionalScanName;  // of the operator, for messages

  int64_t directions() const { return static_cast<int64_t>(reverse.size()); }
};

// A tensor with a row of elements for every direction, sequence and token; the elements of a row are contiguous.
template <typename Void>
struct Rows {
  Void* data;
  int64_t direction, sequence, token;  // elements from one to the next; direction 0: all directions share the rows

  // The first element of a row of T.
  template <typename T>
  VIMDEPLOY_HD auto* at(int64_t k, int64_t b, int64_t l) const {
    using Element = std::conditional_t<std::is_const_v<Void>, const T, T>;
    return static_cast<Element*>(data) + k * direction + b * sequence + l * token;
  }
};

struct SelectiveScanTensors {
  Rows<const void> u;           // rows of E, T
  Rows<const void> delta;       // rows of R, or of E if R is 0, T
  Rows<const void> B;           // rows of N, T
  Rows<const void> C;           // rows of N, T
  Rows<const void> z;           // rows of E, T; unused unless is_gated
  const void* delta_weight;     // (K, E, R) T; unused if R is 0
  const float* delta_bias;      // (K, E)
  const float* A;               // (K, E, N)
  const float* D;               // (K, E)
  Rows<void> y;                 // rows of E, T
  float* last_state = nullptr;  // (B, K, E, N): h after the last token, if it is wanted; on the CPU alone
};

// Whether the attributes are those of the operator: flags of 0 or 1.
Status check_attributes(const Conv1dProblem& problem);
Status check_attributes(const SelectiveScanProblem& problem);

// Whether the operator is defined for these sizes and attributes; empty tensors (B or L of 0) are allowed.
Status check(const Conv1dProblem& problem);
Status check(const SelectiveScanProblem& problem);

}  // namespace vimdeploy
