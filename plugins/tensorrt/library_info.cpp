#include "scan/library_info.h"

#include <NvInferVersion.h>

#include "support/export.h"

VIMDEPLOY_EXPORT const char* VimdeployLibraryInfo() {
  static const std::string info =
      vimdeploy::library_info("\"tensorrt_headers\": \"" + std::to_string(NV_TENSORRT_MAJOR) + "." +
                              std::to_string(NV_TENSORRT_MINOR) + "." + std::to_string(NV_TENSORRT_PATCH) + "\"");
  return info.c_str();
}
