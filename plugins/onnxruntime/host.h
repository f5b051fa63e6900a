// What ONNX Runtime gives to an operator, in the terms of plugins/scan: memory, shapes, errors.

#pragma once

#include <onnxruntime_cxx_api.h>

#include <memory>
#include <vector>

#include "scan/operators.h"
#include "scan/shapes.h"
#include "support/status.h"

namespace vimdeploy::onnxruntime {

ONNXTensorElementDataType onnx_type(ElementType type);

// Null for success, which is ONNX Runtime's way; the caller of the C border owns what is returned.
OrtStatusPtr to_ort_status(const Status& status) noexcept;

// Memory for the length of one call, given back at the end of its scope. Null where no bytes were asked for.
struct FreeScratch {
  OrtAllocator* allocator = nullptr;

  void operator()(void* data) const { allocator->Free(allocator, data); }
};
using Scratch = std::unique_ptr<void, FreeScratch>;

// The session's allocator for the device that a node runs on.
class KernelAllocator {
 public:
  explicit KernelAllocator(const OrtKernelInfo* info);

  int device_id() const { return memory().GetDeviceId(); }

  // For work that is done when the call ends.
  Scratch scratch(size_t bytes) const;

  // For work that the call only queues on the session's stream. What is given back goes to later work of the same
  // stream, and to another stream's only after both have met; memory of scratch() would go to anybody at once.
  Scratch stream_scratch(OrtKernelContext* context, size_t bytes) const;

 private:
  struct Release {
    void operator()(OrtAllocator* allocator) const { Ort::GetApi().ReleaseAllocator(allocator); }
  };

  Ort::ConstMemoryInfo memory() const;

  std::unique_ptr<OrtAllocator, Release> allocator_;
};

std::vector<Shape> input_shapes(const Ort::KernelContext& context);

// Sets type (the first input's) and shape of the only output; sizes that are not known yet stay open.
Status infer_output(OrtShapeInferContext* context, const std::vector<InputAxis>& output);

}  // namespace vimdeploy::onnxruntime
