// classify_tensorrt MODEL.engine PICTURE...: an engine of vimdeploy in TensorRT, by the JSON file that lies beside it.

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "common/program.h"
#include "engine.h"

namespace {

using namespace classify;
using nlohmann::json;

#ifdef TENSORRT_PLUGIN
constexpr const char* kPlugin = TENSORRT_PLUGIN;
#else
constexpr const char* kPlugin = "";
#endif

std::vector<char> contents_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  check(file.good(), path + " cannot be opened");
  return {std::istreambuf_iterator<char>(file), {}};
}

Opened open(const std::string& path) {
  const std::vector<char> plan = contents_of(path);
  const json known = json::parse(contents_of(path + ".json"));
  const auto model = Model::from_metadata(known.at("model").get<std::map<std::string, std::string>>());
  check(known.at("engine_bytes") == plan.size(), "it is not the engine that the file beside it speaks of");
  check(known.at("flavor") == "tensorrt", "it is for TensorRT-RTX, and this program runs TensorRT");
  check(!known.at("plugin_in_engine") && !known.at("version_compatible"),
        "it carries code, which this program does not run; build it without");
  const bool has_plugins = !known.at("plugin_version").is_null();
  check(!has_plugins || *kPlugin != '\0', "it wants our plugin, and this program was built without");
  const auto engine = std::make_shared<Engine>(plan, has_plugins ? kPlugin : "", model);
  return {model, [engine](const Tensor& picture) { return engine->run(picture); }};
}

}  // namespace

int main(int count, char** arguments) { return run_program("classify_tensorrt", count, arguments, open); }
