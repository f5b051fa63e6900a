// What every library of operators says of itself, as JSON, for programs that load it without its runtime, as `vimdeploy
// doctor` does. The build defines the versions and the architectures for the target vimdeploy_library_info.

#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "scan/element.h"
#include "scan/operators.h"

namespace vimdeploy {

inline std::string json_list(const std::vector<std::string>& words) {
  std::string list;
  for (const std::string& word : words) list += (list.empty() ? "\"" : ", \"") + word + "\"";
  return "[" + list + "]";
}

// Splits "a,b", the form in which CMake passes a list.
inline std::vector<std::string> words_of(const std::string& joined) {
  std::vector<std::string> words;
  std::istringstream stream(joined);
  for (std::string word; std::getline(stream, word, ',');) words.push_back(word);
  return words;
}

// `own`: the entries that only this library has.
inline std::string library_info(const std::string& own) {
  std::vector<std::string> types, operators;
  for (ElementType type : kElementTypes) types.emplace_back(name_of(type));
  for_each_operator([&](auto op) { operators.emplace_back(decltype(op)::kName); });
  return "{\"library_version\": \"" VIMDEPLOY_VERSION "\", \"operators_version\": " +
         std::to_string(kOperatorsVersion) + ", \"operators\": " + json_list(operators) +
         ", \"types\": " + json_list(types) + ", " + own +
         ", \"cuda_architectures\": " + json_list(words_of(VIMDEPLOY_CUDA_ARCHITECTURES)) +
         ", \"cuda_version\": \"" VIMDEPLOY_CUDA_VERSION "\"}";
}

}  // namespace vimdeploy
