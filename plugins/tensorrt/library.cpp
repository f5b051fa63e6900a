// The entry points that register the plugins in TensorRT: IPluginRegistry::loadLibrary(path).

#include "support/export.h"
#include "tensorrt/creator.h"

VIMDEPLOY_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  using namespace vimdeploy::tensorrt;
  // A registry refers to the creators and may outlive the library's static objects, so they are never freed.
  static nvinfer1::IPluginCreatorInterface* const creators[] = {new Creator<Conv1d>, new Creator<SelectiveScan>};
  count = static_cast<int32_t>(std::size(creators));
  return creators;
}

VIMDEPLOY_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
  vimdeploy::tensorrt::set_logger_finder(finder);
}
