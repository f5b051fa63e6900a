// Problems of any size with random tensors, for the tests and for benchmarks/native.

#pragma once

#include <cmath>
#include <cstdint>
#include <new>
#include <random>
#include <utility>
#include <vector>

#include "scan/operators.h"

namespace vimdeploy::testing {

// Allocates at a cache line, as ONNX Runtime does for its tensors.
template <typename T>
struct CacheLineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};

  CacheLineAllocator() = default;
  template <typename U>
  explicit CacheLineAllocator(const CacheLineAllocator<U>&) {}

  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kLine)); }
  void deallocate(T* memory, size_t) { ::operator delete(memory, kLine); }
  bool operator==(const CacheLineAllocator&) const { return true; }
  bool operator!=(const CacheLineAllocator&) const { return false; }
};

// A tensor of T.
struct Tensor {
  ElementType type = ElementType::float32;
  std::vector<unsigned char, CacheLineAllocator<unsigned char>> bytes;

  Tensor() = default;
  Tensor(ElementType t, int64_t count) : type(t), bytes(static_cast<size_t>(count * bytes_of(t))) {}

  int64_t size() const { return static_cast<int64_t>(bytes.size()) / bytes_of(type); }
  void* data() { return bytes.data(); }
  const void* data() const { return bytes.data(); }

  float get(int64_t i) const {
    if (type == ElementType::float32) return at<float>(i);
    return type == ElementType::float16 ? to_float(at<Float16>(i)) : to_float(at<BFloat16>(i));
  }

  void set(int64_t i, float value) {
    if (type == ElementType::float32) return put(i, value);
    if (type == ElementType::float16) return put(i, from_float<Float16>(value));
    put(i, from_float<BFloat16>(value));
  }

 private:
  template <typename T>
  T at(int64_t i) const {
    T value;
    std::memcpy(&value, bytes.data() + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return value;
  }
  template <typename T>
  void put(int64_t i, T value) {
    std::memcpy(bytes.data() + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
  }
};

inline Tensor normal_tensor(ElementType type, int64_t count, float spread, std::mt19937& random) {
  Tensor tensor(type, count);
  std::normal_distribution<float> normal(0.0f, spread);
  for (int64_t i = 0; i < count; ++i) tensor.set(i, normal(random));
  return tensor;
}

inline std::vector<float> normal_floats(int64_t count, float middle, float spread, std::mt19937& random) {
  std::vector<float> values(static_cast<size_t>(count));
  std::normal_distribution<float> normal(middle, spread);
  for (float& value : values) value = normal(random);
  return values;
}

// CausalConv1d.
inline Conv1dProblem causal_problem(ElementType type, int64_t batch, int64_t tokens, int64_t channels, int64_t width,
                                    std::vector<int64_t> reverse, int64_t row, int64_t silu = 1) {
  Conv1dProblem problem = CausalConv1dOperator::problem();
  problem.type = type, problem.batch = batch, problem.tokens = tokens, problem.channels = channels;
  problem.width = width, problem.reverse = std::move(reverse), problem.row = row, problem.silu = silu;
  return problem;
}

// SelectiveScan, or LowRankSelectiveScan if there is a rank.
inline SelectiveScanProblem problem_of_groups(ElementType type, int64_t batch, int64_t tokens, int64_t channels,
                                              int64_t states, int64_t rank, std::vector<int64_t> reverse,
                                              int64_t delta_softplus = 1) {
  SelectiveScanProblem problem = rank == 0 ? SelectiveScanOperator::problem() : LowRankScanOperator::problem();
  problem.type = type, problem.batch = batch, problem.tokens = tokens, problem.channels = channels;
  problem.states = states, problem.rank = rank, problem.reverse = std::move(reverse);
  problem.delta_softplus = delta_softplus;
  return problem;
}

// Calls body(Operator()) with the operator that a problem is of.
template <typename Body>
auto with_operator(const Conv1dProblem& problem, Body&& body) {
  if (problem.name == CausalConv1dOperator::kName) return body(CausalConv1dOperator());
  return body(BidirectionalConv1dOperator());
}
template <typename Body>
auto with_operator(const SelectiveScanProblem& problem, Body&& body) {
  if (problem.is_gated) return body(BidirectionalScanOperator());
  return problem.rank == 0 ? body(SelectiveScanOperator()) : body(LowRankScanOperator());
}

// The memory of an input.
struct Bytes {
  const void* data;
  size_t size;

  Bytes(const Tensor& tensor) : data(tensor.data()), size(tensor.bytes.size()) {}
  Bytes(const std::vector<float>& floats) : data(floats.data()), size(floats.size() * sizeof(float)) {}
};

inline std::vector<const void*> pointers_to(const std::vector<Bytes>& inputs) {
  std::vector<const void*> pointers;
  for (const Bytes& input : inputs) pointers.push_back(input.data);
  return pointers;
}

struct Conv1dCase {
  Conv1dProblem problem;
  Tensor x, weight, bias, u;

  explicit Conv1dCase(const Conv1dProblem& p, uint32_t seed = 1) : problem(p) {
    std::mt19937 random(seed);
    const int64_t K = p.directions(), tokens = p.batch * p.tokens;
    x = normal_tensor(p.type, tokens * p.row, 1.0f, random);
    weight = normal_tensor(p.type, K * p.channels * p.width, 0.5f, random);
    bias = normal_tensor(p.type, K * p.channels, 0.5f, random);
    u = Tensor(p.type, K * tokens * p.channels);
  }

  // In the operator's order.
  std::vector<Bytes> inputs() const { return {x, weight, bias}; }
  const Tensor& output() const { return u; }

  Conv1dTensors tensors(Tensor& out) const { return {x.data(), weight.data(), bias.data(), out.data()}; }
};

struct SelectiveScanCase {
  SelectiveScanProblem problem;
  Tensor u, dt_weight, y;
  std::vector<float> dt_bias, A, D;
  Tensor xz, dt_bc;    // if is_gated
  Tensor delta, B, C;  // else

  // Step sizes and A as in trained models: around 0.01 to 1, and -1 to -N. Without softplus the step sizes are
  // positive, as if it was applied before.
  explicit SelectiveScanCase(const SelectiveScanProblem& p, uint32_t seed = 1) : problem(p) {
    std::mt19937 random(seed);
    const int64_t K = p.directions(), tokens = p.batch * p.tokens, E = p.channels, N = p.states;
    u = normal_tensor(p.type, K * tokens * E, 1.0f, random);
    if (p.is_gated) {
      xz = normal_tensor(p.type, tokens * 2 * E, 1.0f, random);
      dt_bc = normal_tensor(p.type, K * tokens * (p.rank + 2 * N), 1.0f, random);
    } else {
      delta = normal_tensor(p.type, K * tokens * (p.rank == 0 ? E : p.rank), p.delta_softplus ? 1.0f : 0.2f, random);
      B = normal_tensor(p.type, K * tokens * N, 1.0f, random);
      C = normal_tensor(p.type, K * tokens * N, 1.0f, random);
    }
    dt_weight = normal_tensor(p.type, K * E * p.rank, 0.3f, random);
    dt_bias = normal_floats(K * E, p.delta_softplus ? -2.0f : 0.1f, p.delta_softplus ? 1.0f : 0.0f, random);
    A = normal_floats(K * E * N, 0.0f, 0.1f, random);
    for (size_t i = 0; i < A.size(); ++i) A[i] -= static_cast<float>(static_cast<int64_t>(i) % N + 1);
    D = normal_floats(K * E, 1.0f, 0.2f, random);
    y = Tensor(p.type, (p.is_gated ? 1 : K) * tokens * E);
    if (p.delta_softplus) return;
    for (Tensor* tensor : {&delta, &dt_weight}) {
      for (int64_t i = 0; i < tensor->size(); ++i) tensor->set(i, std::fabs(tensor->get(i)));
    }
  }

  // In the operator's order.
  std::vector<Bytes> inputs() const {
    if (problem.is_gated) return {u, xz, dt_bc, dt_weight, dt_bias, A, D};
    std::vector<Bytes> inputs = {u, delta, A, B, C, D, dt_bias};
    if (problem.rank > 0) inputs.emplace_back(dt_weight);
    return inputs;
  }
  const Tensor& output() const { return y; }

  SelectiveScanTensors tensors(Tensor& out) const {
    return with_operator(problem,
                         [&](auto op) { return op.tensors(problem, pointers_to(inputs()).data(), out.data()); });
  }
};

}  // namespace vimdeploy::testing
