#include "common/program.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/answer.h"
#include "common/picture.h"

namespace classify {

int run_program(const char* name, int count, char** arguments, const std::function<Opened(const std::string&)>& open) {
  if (count < 3) {
    std::fprintf(stderr, "usage: %s MODEL PICTURE...\n", name);
    return 2;
  }
  try {
    const Opened opened = open(arguments[1]);
    nlohmann::ordered_json images = nlohmann::ordered_json::array();
    for (int i = 2; i < count; ++i) {
      Tensor tensor = tensor_from(read_picture(arguments[i]), opened.model);
      nlohmann::ordered_json top = nlohmann::ordered_json::array();
      for (const auto& [index, label, probability] : predictions_of(opened.logits(tensor), opened.model)) {
        top.push_back({{"index", index}, {"label", label}, {"probability", probability}});
      }
      images.push_back({{"image", arguments[i]}, {"top", top}});
    }
    std::printf("%s\n", nlohmann::ordered_json{{"images", images}}.dump(2).c_str());
    return 0;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "%s: %s\n", name, problem.what());
    return 1;
  }
}

}  // namespace classify
