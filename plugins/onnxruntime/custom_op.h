// An operator of operators.h on a device, as ONNX Runtime's custom operator: check, convert, call.
//
// A Device has the name of its execution provider, kProvider. It is constructed from the OrtKernelInfo of a node; its
// run(context, problem, tensors) computes the result, or queues the work on the session's stream.

#pragma once

#include <algorithm>
#include <iterator>
#include <memory>
#include <vector>

#include "onnxruntime/attributes.h"
#include "onnxruntime/host.h"
#include "support/guard.h"

namespace vimdeploy::onnxruntime {

// One node of a session.
template <typename Operator, typename Device>
class NodeKernel {
 public:
  NodeKernel(typename Operator::Problem problem, const OrtKernelInfo* info)
      : problem_(std::move(problem)), device_(info) {}

  OrtStatusPtr ComputeV2(OrtKernelContext* context) noexcept {
    return to_ort_status(guard([&] { return run(context); }));
  }

 private:
  Status run(OrtKernelContext* raw_context) const {
    const Ort::KernelContext context(raw_context);
    typename Operator::Problem problem = problem_;
    if (Status s = sizes_from_shapes<Operator>(input_shapes(context), problem); !s.ok()) return s;

    std::vector<const void*> inputs;
    for (size_t i = 0; i < std::size(Operator::kInputs); ++i) inputs.push_back(context.GetInput(i).GetTensorRawData());
    const Shape shape = output_shape(problem);
    void* output = context.GetOutput(0, shape).GetTensorMutableRawData();
    if (std::count(shape.begin(), shape.end(), 0) > 0) return {};
    return device_.run(raw_context, problem, Operator::tensors(problem, inputs.data(), output));
  }

  typename Operator::Problem problem_;  // attributes and type; the sizes are read at every call
  Device device_;
};

template <typename Operator, typename Device>
class CustomOp : public Ort::CustomOpBase<CustomOp<Operator, Device>, NodeKernel<Operator, Device>, true> {
 public:
  explicit CustomOp(ElementType type) : type_(type) {
    OrtCustomOp::InferOutputShapeFn = [](const OrtCustomOp*, OrtShapeInferContext* context) -> OrtStatusPtr {
      return to_ort_status(guard([&] { return infer_output(context, output_axes<Operator>()); }));
    };
  }

  OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const noexcept {
    return to_ort_status(guard([&]() -> Status {
      auto problem = Operator::problem();
      problem.type = type_;
      Operator::visit_attributes(problem, AttributeReader(Operator::kName, info));
      *kernel = std::make_unique<NodeKernel<Operator, Device>>(std::move(problem), info).release();
      return {};
    }));
  }

  const char* GetName() const { return Operator::kName; }
  const char* GetExecutionProviderType() const { return Device::kProvider; }
  size_t GetInputTypeCount() const { return std::size(Operator::kInputs); }
  ONNXTensorElementDataType GetInputType(size_t i) const {
    return onnx_type(Operator::kInputs[i].is_float32() ? ElementType::float32 : type_);
  }
  size_t GetOutputTypeCount() const { return 1; }
  ONNXTensorElementDataType GetOutputType(size_t) const { return onnx_type(type_); }

 private:
  ElementType type_;
};

// ONNX Runtime ignores a model's function body for an operator that is registered here, so every type of the contract
// has to have a kernel. The domain is never freed (library.cpp), and so the operators that it refers to are not either.
template <typename Operator, typename Device>
void add_all_types(Ort::CustomOpDomain& domain) {
  using Op = CustomOp<Operator, Device>;
  static const auto& ops = *new std::vector<Op>(std::begin(kElementTypes), std::end(kElementTypes));
  for (const Op& op : ops) domain.Add(&op);
}

template <typename Device>
void add_all_operators(Ort::CustomOpDomain& domain) {
  for_each_operator([&](auto op) { add_all_types<decltype(op), Device>(domain); });
}

}  // namespace vimdeploy::onnxruntime
