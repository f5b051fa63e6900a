#include "tensorrt/host.h"

#include <algorithm>
#include <iterator>

namespace vimdeploy::tensorrt {

using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;

std::optional<ElementType> element_type(DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return ElementType::float32;
    case DataType::kHALF:
      return ElementType::float16;
    case DataType::kBF16:
      return ElementType::bfloat16;
    default:
      return std::nullopt;
  }
}

std::string name_of(DataType type) {
  if (const auto known = element_type(type)) return name_of(*known);
  return "DataType " + std::to_string(static_cast<int>(type));
}

std::string names_of_element_types() {
  std::string names;
  const size_t count = std::size(kElementTypes);
  for (size_t i = 0; i < count; ++i) {
    names += (i == 0 ? "" : i + 1 < count ? ", " : " or ") + std::string(name_of(kElementTypes[i]));
  }
  return names;
}

Shape shape_of(const nvinfer1::Dims& dims) { return dims.nbDims > 0 ? Shape(dims.d, dims.d + dims.nbDims) : Shape(); }

nvinfer1::PluginTensorDesc tensor_at(Bound bound, const DynamicPluginTensorDesc& tensor) {
  nvinfer1::PluginTensorDesc found = tensor.desc;
  const nvinfer1::Dims& bounds = tensor.*bound;
  for (int32_t axis = 0; axis < std::min(found.dims.nbDims, bounds.nbDims); ++axis) {
    if (found.dims.d[axis] < 0) found.dims.d[axis] = bounds.d[axis];
  }
  return found;
}

bool has_open_sizes(const DynamicPluginTensorDesc& tensor) {
  return shape_of(tensor_at(&DynamicPluginTensorDesc::min, tensor).dims) !=
         shape_of(tensor_at(&DynamicPluginTensorDesc::max, tensor).dims);
}

}  // namespace vimdeploy::tensorrt
