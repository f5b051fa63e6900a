#include "common/program.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "common/answer.h"
#include "common/picture.h"

namespace classify {

using nlohmann::ordered_json;

int run_program(const char* name, int count, char** arguments, const std::function<Opened(const std::string&)>& open) {
  if (count < 3) {
    std::fprintf(stderr, "usage: %s MODEL PICTURE...\n", name);
    return 2;
  }
  const char* subject = arguments[1];  // of a message
  try {
    const Opened opened = open(subject);
    ordered_json images = ordered_json::array();
    for (int i = 2; i < count; ++i) {
      subject = arguments[i];
      Tensor tensor = tensor_from(read_picture(subject), opened.model);
      ordered_json top = ordered_json::array();
      for (const auto& [index, label, probability] : predictions_of(opened.logits(tensor), opened.model)) {
        top.push_back({{"index", index}, {"label", label}, {"probability", probability}});
      }
      images.push_back({{"image", subject}, {"top", top}});
    }
    const ordered_json document = {{"images", images}};
    std::printf("%s\n", document.dump(2, ' ', false, ordered_json::error_handler_t::replace).c_str());
    return 0;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "%s: %s: %s\n", name, subject, problem.what());
    return 1;
  }
}

}  // namespace classify
