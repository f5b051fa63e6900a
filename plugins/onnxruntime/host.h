// What ONNX Runtime gives to an operator, in the terms of plugins/scan: threads, scratch, shapes, errors.

#pragma once

#include <onnxruntime_cxx_api.h>

#include <vector>

#include "scan/parallel_for.h"
#include "scan/plan.h"
#include "scan/shapes.h"
#include "support/status.h"

namespace vimdeploy::onnxruntime {

// Where ONNX Runtime finds one size of an output: an axis of an input.
struct InputAxis {
  size_t input, axis;
};

ONNXTensorElementDataType onnx_type(ElementType type);

// Null for success, which is ONNX Runtime's way; the caller of the C border owns what is returned.
OrtStatusPtr to_ort_status(const Status& status) noexcept;

// The session's threads. `context` outlives the call that uses them.
ParallelFor parallel_for_of(OrtKernelContext* context);

// The session tells nobody how many threads it has; the machine's are an upper bound.
CpuFacts cpu_facts();

// Memory of the session's CPU allocator, given back at the end of the scope.
class Scratch {
 public:
  Scratch(OrtKernelContext* context, size_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* data() const { return data_; }

 private:
  OrtAllocator* allocator_ = nullptr;
  void* data_ = nullptr;
};

std::vector<Shape> input_shapes(const Ort::KernelContext& context);

// Sets type (the first input's) and shape of the only output; sizes that are not known yet stay open.
Status infer_output(OrtShapeInferContext* context, const std::vector<InputAxis>& output);

}  // namespace vimdeploy::onnxruntime
