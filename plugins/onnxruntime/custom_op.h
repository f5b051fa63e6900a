// An operator of operators.h as ONNX Runtime's custom operator: check, convert, call.

#pragma once

#include <memory>

#include "onnxruntime/host.h"
#include "support/guard.h"

namespace vimdeploy::onnxruntime {

// One node of a session.
template <typename Operator>
class NodeKernel {
 public:
  explicit NodeKernel(typename Operator::Problem problem) : problem_(std::move(problem)) {}

  OrtStatusPtr ComputeV2(OrtKernelContext* context) noexcept {
    return to_ort_status(guard([&] { return run(context); }));
  }

 private:
  Status run(OrtKernelContext* raw_context) const {
    const Ort::KernelContext context(raw_context);
    typename Operator::Problem problem = problem_;
    if (Status s = sizes_from_shapes(input_shapes(context), problem); !s.ok()) return s;

    std::vector<const void*> inputs;
    for (size_t i = 0; i < Operator::kInputs; ++i) inputs.push_back(context.GetInput(i).GetTensorRawData());
    void* output = context.GetOutput(0, output_shape(problem)).GetTensorMutableRawData();
    const auto plan = plan_of(problem, cpu_facts());
    if (plan.tasks == 0) return {};
    const Scratch scratch(raw_context, plan.scratch_bytes);
    const auto& best = Operator::kernels().front();
    best.run(problem, plan, Operator::tensors(inputs, output), scratch.data(), parallel_for_of(raw_context));
    return {};
  }

  typename Operator::Problem problem_;  // the attributes and the type; sizes come with every call
};

template <typename Operator>
class CustomOp : public Ort::CustomOpBase<CustomOp<Operator>, NodeKernel<Operator>, true> {
 public:
  explicit CustomOp(ElementType type) : type_(type) {
    OrtCustomOp::InferOutputShapeFn = [](const OrtCustomOp*, OrtShapeInferContext* context) -> OrtStatusPtr {
      return to_ort_status(guard([&] { return infer_output(context, Operator::output()); }));
    };
  }

  OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const noexcept {
    return to_ort_status(guard([&]() -> Status {
      typename Operator::Problem problem;
      problem.type = type_;
      Operator::read_attributes(Ort::ConstKernelInfo(info), problem);
      *kernel = std::make_unique<NodeKernel<Operator>>(std::move(problem)).release();
      return {};
    }));
  }

  const char* GetName() const { return Operator::kName; }
  size_t GetInputTypeCount() const { return Operator::kInputs; }
  ONNXTensorElementDataType GetInputType(size_t i) const {
    return onnx_type(Operator::is_float32(i) ? ElementType::float32 : type_);
  }
  size_t GetOutputTypeCount() const { return 1; }
  ONNXTensorElementDataType GetOutputType(size_t) const { return onnx_type(type_); }

 private:
  ElementType type_;
};

}  // namespace vimdeploy::onnxruntime
