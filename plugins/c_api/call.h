// The arguments of a C function as a problem, for any device: everything is checked before a tensor is read.

#pragma once

#include <iterator>
#include <string>

#include "scan/operators.h"
#include "scan/shapes.h"
#include "support/guard.h"

namespace vimdeploy::c_api {

// Calls `body`, which returns a Status. The message is valid until the thread's next call.
template <typename Body>
const char* message_of(Body&& body) noexcept {
  thread_local Status status;
  status = guard(std::forward<Body>(body));
  return status.ok() ? nullptr : status.message().c_str();
}

struct Arguments {
  int type;
  const char* letters;  // of the sizes, in their order
  const int64_t* sizes;
  char directions;  // the letter that counts the flags of reverse
  const int64_t* reverse;
  const void* const* inputs;
  const void* output;
};

// Elements of a tensor: no memory holds more, and products of sizes below it fit into 64 bits.
inline constexpr double kMostElements = 0x1p48;

// Flags of reverse, which are read before anything else is known.
inline constexpr int64_t kMostDirections = 1 << 16;

inline Status check_tensor(const char* op, const char* name, const Shape& shape, const void* data) {
  double elements = 1;
  for (int64_t size : shape) elements *= static_cast<double>(size);
  if (elements > kMostElements) return Status::error(std::string(op) + ": " + name + " is larger than any memory");
  if (elements > 0 && data == nullptr) return Status::error(std::string(op) + ": " + name + " is NULL");
  return {};
}

// `problem` has the attributes but `reverse`.
template <typename Operator>
Status read_call(const Arguments& call, typename Operator::Problem& problem) {
  const std::string op = Operator::kName;
  if (call.sizes == nullptr || call.reverse == nullptr || call.inputs == nullptr) {
    return Status::error(op + ": sizes, reverse or inputs is NULL");
  }
  if (call.type < 0 || call.type >= static_cast<int>(std::size(kElementTypes))) {
    return Status::error(op + ": type is " + std::to_string(call.type) +
                         ", wanted 0 (float32), 1 (float16) or 2 (bfloat16)");
  }
  Sizes sizes;
  for (size_t i = 0; call.letters[i] != 0; ++i) sizes.set(call.letters[i], call.sizes[i]);
  const int64_t directions = sizes.get(call.directions);
  if (directions < 1 || directions > kMostDirections) {
    return Status::error(op + ": " + call.directions + " is " + std::to_string(directions) + ", wanted 1 to " +
                         std::to_string(kMostDirections));
  }
  problem.type = kElementTypes[call.type];
  problem.reverse.assign(call.reverse, call.reverse + directions);
  std::vector<Shape> shapes;
  for (const TensorSpec& input : Operator::kInputs) shapes.push_back(shape_of(input, sizes));
  if (Status s = sizes_from_shapes<Operator>(shapes, problem); !s.ok()) return s;
  for (size_t i = 0; i < shapes.size(); ++i) {
    if (Status s = check_tensor(Operator::kName, Operator::kInputs[i].name, shapes[i], call.inputs[i]); !s.ok())
      return s;
  }
  return check_tensor(Operator::kName, Operator::kOutput.name, output_shape(problem), call.output);
}

}  // namespace vimdeploy::c_api
