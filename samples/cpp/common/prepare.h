// From a picture to what a model takes: what vimdeploy makes of it by vimdeploy/preprocess.py, to the bit.

#pragma once

#include <array>
#include <cstdint>
#include <variant>
#include <vector>

#include "common/model.h"
#include "common/picture.h"

namespace classify {

// One picture as a model takes it, a batch of 1.
struct Tensor {
  std::array<int64_t, 4> shape;
  std::variant<std::vector<float>, std::vector<uint8_t>> values;
};

// By the model's recipe, in the size that the model takes; if it takes any, in the size that is nearest to the
// picture's.
Tensor tensor_from(const Picture& rgb, const Model& model);

}  // namespace classify
