// classify ENGINE PLUGIN PICTURE.ppm [LABELS.txt]: prints the five classes that a Vision Mamba finds likeliest.

#include <numeric>

#include "engine.h"
#include "picture.h"

namespace {

std::vector<std::string> read_lines(const std::string& path) {
  std::ifstream file(path);
  check(file.good(), path + " cannot be opened");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

void print_best(const std::vector<float>& logits, const std::vector<std::string>& labels) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  float sum = 0;
  for (float logit : logits) sum += std::exp(logit - largest);
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto best = order.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(5, order.size()));
  std::partial_sort(order.begin(), best, order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  for (auto i = order.begin(); i != best; ++i) {
    const std::string name = *i < labels.size() ? labels[*i] : "class " + std::to_string(*i);
    std::printf("%5.1f %%  %s\n", 100 * std::exp(logits[*i] - largest) / sum, name.c_str());
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4 || count > 5) {
    std::fprintf(stderr, "usage: classify ENGINE PLUGIN PICTURE.ppm [LABELS.txt]\n");
    return 2;
  }
  try {
    const std::vector<std::string> labels = count > 4 ? read_lines(arguments[4]) : std::vector<std::string>();
    const Picture picture = read_ppm(arguments[3]);
    const Engine engine(arguments[1], arguments[2]);
    print_best(engine.run(tensor_from(picture, engine.width(), engine.height())), labels);
    return 0;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "classify: %s\n", problem.what());
    return 1;
  }
}
