#include "common/answer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/check.h"

namespace classify {
namespace {

// A single logit was trained with a sigmoid, which is the softmax of it and of 0, the logit of the class's absence.
std::vector<std::string> labels_of(const Model& model, size_t logits) {
  std::vector<std::string> labels = model.labels;
  for (size_t i = labels.size(); i < logits; ++i) labels.push_back("class " + std::to_string(i));
  if (logits == 1) labels.push_back("not " + labels[0]);
  return labels;
}

}  // namespace

std::vector<Prediction> predictions_of(std::vector<float> logits, const Model& model) {
  constexpr size_t kTop = 5;
  const bool is_finite = std::all_of(logits.begin(), logits.end(), [](float logit) { return std::isfinite(logit); });
  check(is_finite && !logits.empty(), "its logits are not finite");
  const std::vector<std::string> labels = labels_of(model, logits.size());
  if (logits.size() == 1) logits.push_back(0);

  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> exponentials;
  for (float logit : logits) exponentials.push_back(std::exp(static_cast<double>(logit) - largest));
  const double sum = std::accumulate(exponentials.begin(), exponentials.end(), 0.0);

  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  order.resize(std::min(kTop, order.size()));
  std::vector<Prediction> predictions;
  for (size_t i : order) predictions.push_back({i, labels[i], exponentials[i] / sum});
  return predictions;
}

}  // namespace classify
