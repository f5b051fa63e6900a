// A description of the library, as JSON, for programs that load it without ONNX Runtime, as `vimdeploy doctor` does.

#include <sstream>
#include <string>

#include "scan/cpu/operators.h"
#include "support/export.h"

namespace vimdeploy {
namespace {

std::string json_list(const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "\"" : ", \"") + word + "\"";
  return "[" + list + "]";
}

// Splits "a,b", the form in which CMake passes a list.
std::vector<std::string> words_of(const std::string& joined) {
  std::vector<std::string> words;
  std::istringstream stream(joined);
  for (std::string word; std::getline(stream, word, ',');) words.push_back(word);
  return words;
}

std::string library_info() {
  std::vector<std::string> types, instruction_sets;
  for (ElementType type : kElementTypes) types.emplace_back(name_of(type));
  for (const auto& kernel : selective_scan_kernels()) {
    instruction_sets.emplace_back(name_of_instruction_set(kernel.target));
  }
  return "{\"library_version\": \"" VIMDEPLOY_VERSION "\", \"operators_version\": " +
         std::to_string(kOperatorsVersion) + ", \"operators\": " + json_list({kConv1dName, kSelectiveScanName}) +
         ", \"types\": " + json_list(types) + ", \"instruction_set\": \"" + instruction_sets.front() +
         "\", \"instruction_sets\": " + json_list(instruction_sets) +
         ", \"cuda_architectures\": " + json_list(words_of(VIMDEPLOY_CUDA_ARCHITECTURES)) +
         ", \"cuda_version\": \"" VIMDEPLOY_CUDA_VERSION "\"}";
}

}  // namespace
}  // namespace vimdeploy

VIMDEPLOY_EXPORT const char* VimdeployLibraryInfo() {
  static const std::string info = vimdeploy::library_info();
  return info.c_str();
}
