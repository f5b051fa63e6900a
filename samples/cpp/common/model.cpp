#include "common/model.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/check.h"

namespace classify {
namespace {

using nlohmann::json;

int64_t size_of(const json& value) {
  check(value.is_number_integer() && value >= 1 && value <= 1 << 30, "its metadata has a size that no picture has");
  return value.get<int64_t>();
}

Side side_of(const json& dim, const json& sizes) {
  if (!dim.is_string()) return {size_of(dim), 1, size_of(dim)};
  Side side;
  const auto range = sizes.find(dim.get<std::string>());
  if (range == sizes.end()) return side;
  side.least = size_of(range->at("least"));
  side.step = size_of(range->at("step"));
  if (!range->at("most").is_null()) side.most = std::max(size_of(range->at("most")), side.least);
  return side;
}

Recipe recipe_of(const json& document) {
  Recipe recipe;
  recipe.crop = document.at("crop");
  recipe.interpolation = document.at("interpolation");
  for (double value : document.at("mean")) recipe.mean.push_back(static_cast<float>(value));
  for (double value : document.at("std")) recipe.std.push_back(static_cast<float>(value));
  const std::vector<std::string> known = {"bicubic", "bilinear", "lanczos"};
  check(std::find(known.begin(), known.end(), recipe.interpolation) != known.end(),
        "it resizes pictures by " + recipe.interpolation + ", this program by bicubic, bilinear or lanczos");
  check(document.at("fit") == "crop", "it does not take the middle of pictures, as this program does");
  check(recipe.mean.size() == recipe.std.size() && (recipe.mean.size() == 1 || recipe.mean.size() == 3),
        "it takes pictures that are neither grey nor RGB");
  check(recipe.crop >= 0.01 && recipe.crop <= 1, "it takes no part of pictures");
  return recipe;
}

}  // namespace

int64_t Side::nearest(int64_t size) const {
  auto steps = std::max<int64_t>(std::llrint(static_cast<double>(size - least) / static_cast<double>(step)), 0);
  if (most) steps = std::min(steps, (*most - least) / step);
  return least + steps * step;
}

Model Model::from_metadata(const std::map<std::string, std::string>& entries) {
  const auto text = [&](const std::string& name) {
    const auto entry = entries.find("vimdeploy." + name);
    check(entry != entries.end(), "it has no entry vimdeploy." + name + ", so vimdeploy did not make it");
    return entry->second;
  };
  check(text("format") == "2" && text("operators_version") == "1", "it is of another vimdeploy; export it again");
  check(text("task") == "classification", "its task is '" + text("task") + "'; this program takes classification");
  try {
    Model model;
    const json inputs = json::parse(text("inputs")), sizes = json::parse(text("sizes"));
    const json& input = inputs.at(0);
    model.input = input.at("name");
    model.output = json::parse(text("outputs")).at(0).at("name");
    check(inputs.size() == 1 && input.at("dims").size() == 4, "it takes something beside pictures");
    check(input.at("dims").at(0).is_string() || input.at("dims").at(0) == 1,
          "it takes several pictures at a time alone");
    model.takes_bytes = input.at("type") == "uint8";
    check(model.takes_bytes || input.at("type") == "float32", "it takes pictures of neither uint8 nor float32");
    const size_t first = model.takes_bytes ? 1 : 2;
    model.height = side_of(input.at("dims").at(first), sizes);
    model.width = side_of(input.at("dims").at(first + 1), sizes);
    model.recipe = recipe_of(json::parse(text("recipe")));
    check(input.at("dims").at(model.takes_bytes ? 3 : 1) == model.channels(),
          "its recipe has other channels than its input");
    model.labels = json::parse(text("labels")).get<std::vector<std::string>>();
    model.precision = text("precision");
    return model;
  } catch (const json::exception& problem) {
    throw std::runtime_error(std::string("its vimdeploy.* metadata is damaged: ") + problem.what());
  }
}

}  // namespace classify
