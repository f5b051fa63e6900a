// Checks the tensors that TensorRT passes to an operator against its contract. Positions number the inputs, then the
// output.

#pragma once

#include "tensorrt/host.h"

namespace vimdeploy::tensorrt {

template <typename Operator>
bool are_counts_right(int32_t inputs, int32_t outputs) {
  return inputs == static_cast<int32_t>(std::size(Operator::kInputs)) && outputs == 1;
}

template <typename Operator>
Status check_counts(int32_t inputs, int32_t outputs) {
  if (are_counts_right<Operator>(inputs, outputs)) return {};
  return Status::error(std::string(Operator::kName) + ": found " + std::to_string(inputs) + " inputs and " +
                       std::to_string(outputs) + " outputs, wanted " + std::to_string(std::size(Operator::kInputs)) +
                       " and 1");
}

// The first input determines T.
template <typename Operator>
nvinfer1::DataType wanted_type(size_t position, nvinfer1::DataType first) {
  const bool is_float32 = position < std::size(Operator::kInputs) && Operator::kInputs[position].is_float32();
  return is_float32 ? nvinfer1::DataType::kFLOAT : first;
}

template <typename Operator>
std::string name_of_tensor(size_t position) {
  const bool is_input = position < std::size(Operator::kInputs);
  return std::string(Operator::kName) + (is_input ? ": input " : ": output ") +
         (is_input ? Operator::kInputs[position] : Operator::kOutput).name;
}

template <typename Operator>
Status check_type(size_t position, nvinfer1::DataType type, nvinfer1::DataType first) {
  const nvinfer1::DataType wanted = wanted_type<Operator>(position, first);
  if (element_type(wanted) && type == wanted) return {};
  return Status::error(name_of_tensor<Operator>(position) + " has type " + name_of(type) + ", wanted " +
                       (position == 0 ? names_of_element_types() : name_of(wanted)));
}

// Sets the problem's type and sizes from the inputs and the output; attributes are kept.
template <typename Operator>
Status read_tensors(const std::vector<nvinfer1::PluginTensorDesc>& tensors, typename Operator::Problem& problem) {
  std::vector<Shape> shapes;
  for (size_t position = 0; position < tensors.size(); ++position) {
    const nvinfer1::PluginTensorDesc& tensor = tensors[position];
    if (Status s = check_type<Operator>(position, tensor.type, tensors[0].type); !s.ok()) return s;
    if (tensor.format != nvinfer1::TensorFormat::kLINEAR) {
      return Status::error(name_of_tensor<Operator>(position) + " has TensorFormat " +
                           std::to_string(static_cast<int>(tensor.format)) + ", wanted kLINEAR");
    }
    if (position < std::size(Operator::kInputs)) shapes.push_back(shape_of(tensor.dims));
  }
  problem.type = *element_type(tensors[0].type);
  return sizes_from_shapes<Operator>(shapes, problem);
}

}  // namespace vimdeploy::tensorrt
