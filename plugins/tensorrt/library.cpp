// The entry points that register the plugins in TensorRT: IPluginRegistry::loadLibrary(path).

#include <vector>

#include "scan/operators.h"
#include "support/export.h"
#include "tensorrt/creator.h"

VIMDEPLOY_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  using namespace vimdeploy::tensorrt;
  // A registry refers to the creators and may outlive the library's static objects, so they are never freed.
  static const auto& creators = *[] {
    auto* made = new std::vector<nvinfer1::IPluginCreatorInterface*>;
    vimdeploy::for_each_operator([&](auto op) { made->push_back(new Creator<decltype(op)>); });
    return made;
  }();
  count = static_cast<int32_t>(creators.size());
  return creators.data();
}

VIMDEPLOY_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) {
  vimdeploy::tensorrt::set_logger_finder(finder);
}
