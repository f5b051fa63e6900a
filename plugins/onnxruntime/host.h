// ONNX Runtime's memory, shapes and errors, translated for plugins/scan.

#pragma once

#include <onnxruntime_cxx_api.h>

#include <atomic>
#include <memory>
#include <vector>

#include "scan/operators.h"
#include "scan/shapes.h"
#include "support/status.h"

namespace vimdeploy::onnxruntime {

ONNXTensorElementDataType onnx_type(ElementType type);

// Null for success, as ONNX Runtime expects it; the caller owns the result.
OrtStatusPtr to_ort_status(const Status& status) noexcept;

// Memory for one call, freed at the end of its scope. Null if no bytes were requested.
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

  // For work that has finished when the call returns.
  Scratch scratch(size_t bytes) const;

  // For work that the call only queues on the session's stream. Freed memory is reused by later work of the same
  // stream, and by another stream only after the two have synchronized; memory of scratch() could be reused at once.
  Scratch stream_scratch(OrtKernelContext* context, size_t bytes) const;

 private:
  struct Release {
    void operator()(OrtAllocator* allocator) const { Ort::GetApi().ReleaseAllocator(allocator); }
  };

  Ort::ConstMemoryInfo memory() const;

  std::unique_ptr<OrtAllocator, Release> allocator_;
  mutable std::atomic<size_t> most_bytes_{0};  // that stream_scratch() was asked for
};

std::vector<Shape> input_shapes(const Ort::KernelContext& context);

// Sets the type (that of the first input) and the shape of the only output; sizes that are not known yet stay unknown.
Status infer_output(OrtShapeInferContext* context, const std::vector<InputAxis>& output);

}  // namespace vimdeploy::onnxruntime
