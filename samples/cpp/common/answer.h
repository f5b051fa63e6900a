// From logits to the classes that `vimdeploy run` names, with the same probabilities to the bit.

#pragma once

#include <string>
#include <vector>

#include "common/model.h"

namespace classify {

struct Prediction {
  size_t index;
  std::string label;
  double probability;
};

// The likeliest classes of a picture, at most five; throws if logits are not finite.
std::vector<Prediction> predictions_of(std::vector<float> logits, const Model& model);

}  // namespace classify
