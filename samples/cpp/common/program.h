// What the two programs have in common: their arguments, what they print, and how they fail.

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/model.h"
#include "common/prepare.h"

namespace classify {

// A model that a runtime has opened.
struct Opened {
  Model model;
  std::function<std::vector<float>(Tensor&)> logits;  // of one picture
};

// NAME MODEL PICTURE...: opens the model, and prints the answer to each picture as `vimdeploy run --json` does. Returns
// the exit code.
int run_program(const char* name, int count, char** arguments, const std::function<Opened(const std::string&)>& open);

}  // namespace classify
