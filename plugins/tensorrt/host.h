// What TensorRT tells a plugin of its tensors, in the terms of plugins/scan.

#pragma once

#include <NvInferRuntime.h>

#include <optional>
#include <string>
#include <vector>

#include "scan/element.h"
#include "scan/shapes.h"

namespace vimdeploy::tensorrt {

// Nothing for a type that no operator takes.
std::optional<ElementType> element_type(nvinfer1::DataType type);

std::string name_of(nvinfer1::DataType type);

// Every type of the contract, as "a, b or c".
std::string names_of_element_types();

Shape shape_of(const nvinfer1::Dims& dims);

// The tensor with its open sizes (-1) taken from `bound`: the least, the best or the largest.
using Bound = nvinfer1::Dims nvinfer1::DynamicPluginTensorDesc::*;
nvinfer1::PluginTensorDesc tensor_at(Bound bound, const nvinfer1::DynamicPluginTensorDesc& tensor);

// Whether the least sizes and the largest differ.
bool has_open_sizes(const nvinfer1::DynamicPluginTensorDesc& tensor);

}  // namespace vimdeploy::tensorrt
