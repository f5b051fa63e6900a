// TensorRT's descriptions of tensors, translated for plugins/scan.

#pragma once

#include <NvInferRuntime.h>

#include <optional>
#include <string>
#include <vector>

#include "scan/element.h"
#include "scan/shapes.h"

namespace vimdeploy::tensorrt {

// Empty for a type that no operator takes.
std::optional<ElementType> element_type(nvinfer1::DataType type);

std::string name_of(nvinfer1::DataType type);

// Every type of the contract, as "a, b or c".
std::string names_of_element_types();

Shape shape_of(const nvinfer1::Dims& dims);

// The tensor with its dynamic sizes (-1) replaced by those of `bound`: min, opt or max of the profile.
using Bound = nvinfer1::Dims nvinfer1::DynamicPluginTensorDesc::*;
nvinfer1::PluginTensorDesc tensor_at(Bound bound, const nvinfer1::DynamicPluginTensorDesc& tensor);

// Whether the smallest sizes and the largest differ.
bool has_open_sizes(const nvinfer1::DynamicPluginTensorDesc& tensor);

}  // namespace vimdeploy::tensorrt
