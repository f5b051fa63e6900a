#include "scan/library_info.h"

#include "scan/cpu/operators.h"
#include "support/export.h"

namespace {

std::string own_entries() {
  std::vector<std::string> instruction_sets;
  for (const auto& kernel : vimdeploy::selective_scan_kernels()) {
    instruction_sets.emplace_back(vimdeploy::name_of_instruction_set(kernel.target));
  }
  return "\"instruction_set\": \"" + instruction_sets.front() +
         "\", \"instruction_sets\": " + vimdeploy::json_list(instruction_sets);
}

}  // namespace

VIMDEPLOY_EXPORT const char* VimdeployLibraryInfo() {
  static const std::string info = vimdeploy::library_info(own_entries());
  return info.c_str();
}
