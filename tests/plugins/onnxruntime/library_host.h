// A fake of ONNX Runtime's C API: collects what the library registers, and runs single nodes.

#pragma once

#include <onnxruntime_c_api.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "onnxruntime/library_under_test.h"
#include "scan/shapes.h"

namespace vimdeploy::testing {

// A node, as its kernel sees it. Its tensors have shapes but no memory.
struct FakeNode {
  std::vector<int64_t> reverse;
  float scale = 1;
  int64_t flag = 1;  // silu, delta_softplus
  std::vector<Shape> inputs;
  Shape output;  // set by the kernel
};

// A node of the operator of that name, whose tensors have these sizes.
inline FakeNode node_of(const std::string& name, const Sizes& sizes) {
  FakeNode node;
  node.reverse.assign(static_cast<size_t>(sizes.get('K')), 0);
  for_each_operator([&](auto op) {
    if (name != op.kName) return;
    for (const TensorSpec& input : op.kInputs) node.inputs.push_back(shape_of(input, sizes));
  });
  return node;
}

namespace fake {

inline std::vector<const OrtCustomOp*>& registered() {
  static std::vector<const OrtCustomOp*> operators;
  return operators;
}

template <typename Handle, typename Object>
Handle* handle_of(Object& object) {
  return reinterpret_cast<Handle*>(&object);
}

template <typename Handle>
const FakeNode& node_of(const Handle* handle) {
  return *reinterpret_cast<const FakeNode*>(handle);
}

inline const OrtApi* ORT_API_CALL api(uint32_t) noexcept {
  static const OrtApi made = [] {
    OrtApi a{};
    a.CreateCustomOpDomain = [](const char*, OrtCustomOpDomain** out) noexcept -> OrtStatusPtr {
      *out = handle_of<OrtCustomOpDomain>(registered());
      return nullptr;
    };
    a.CustomOpDomain_Add = [](OrtCustomOpDomain*, const OrtCustomOp* op) noexcept -> OrtStatusPtr {
      registered().push_back(op);
      return nullptr;
    };
    a.AddCustomOpDomain = [](OrtSessionOptions*, OrtCustomOpDomain*) noexcept -> OrtStatusPtr { return nullptr; };
    a.CreateStatus = [](OrtErrorCode, const char* message) noexcept -> OrtStatus* {
      return reinterpret_cast<OrtStatus*>(new std::string(message));
    };
    a.KernelInfoGetAttributeArray_int64 = [](const OrtKernelInfo* info, const char*, int64_t* out,
                                             size_t* count) noexcept -> OrtStatusPtr {
      const std::vector<int64_t>& reverse = node_of(info).reverse;
      if (out != nullptr) std::copy(reverse.begin(), reverse.end(), out);
      *count = reverse.size();
      return nullptr;
    };
    a.KernelInfoGetAttribute_float = [](const OrtKernelInfo* info, const char*, float* out) noexcept -> OrtStatusPtr {
      *out = node_of(info).scale;
      return nullptr;
    };
    a.KernelInfoGetAttribute_int64 = [](const OrtKernelInfo* info, const char*, int64_t* out) noexcept -> OrtStatusPtr {
      *out = node_of(info).flag;
      return nullptr;
    };
    a.KernelInfoGetAllocator = [](const OrtKernelInfo*, OrtMemType, OrtAllocator** out) noexcept -> OrtStatusPtr {
      static OrtAllocator allocator{};
      allocator.Info = [](const OrtAllocator*) -> const OrtMemoryInfo* { return nullptr; };
      *out = &allocator;
      return nullptr;
    };
    a.ReleaseAllocator = [](OrtAllocator*) noexcept {};
    a.MemoryInfoGetId = [](const OrtMemoryInfo*, int* device) noexcept -> OrtStatusPtr {
      *device = 0;
      return nullptr;
    };
    a.KernelContext_GetInputCount = [](const OrtKernelContext* context, size_t* out) noexcept -> OrtStatusPtr {
      *out = node_of(context).inputs.size();
      return nullptr;
    };
    a.KernelContext_GetInput = [](const OrtKernelContext* context, size_t i,
                                  const OrtValue** out) noexcept -> OrtStatusPtr {
      *out = reinterpret_cast<const OrtValue*>(&node_of(context).inputs[i]);
      return nullptr;
    };
    a.KernelContext_GetOutput = [](OrtKernelContext* context, size_t, const int64_t* sizes, size_t count,
                                   OrtValue** out) noexcept -> OrtStatusPtr {
      auto& output = reinterpret_cast<FakeNode*>(context)->output;
      output.assign(sizes, sizes + count);
      *out = handle_of<OrtValue>(output);
      return nullptr;
    };
    a.KernelContext_GetGPUComputeStream = [](const OrtKernelContext*, void** out) noexcept -> OrtStatusPtr {
      *out = nullptr;
      return nullptr;
    };
    a.GetTensorMutableData = [](OrtValue*, void** out) noexcept -> OrtStatusPtr {
      *out = nullptr;
      return nullptr;
    };
    a.GetTensorTypeAndShape = [](const OrtValue* value, OrtTensorTypeAndShapeInfo** out) noexcept -> OrtStatusPtr {
      *out = reinterpret_cast<OrtTensorTypeAndShapeInfo*>(const_cast<OrtValue*>(value));
      return nullptr;
    };
    a.GetDimensionsCount = [](const OrtTensorTypeAndShapeInfo* info, size_t* out) noexcept -> OrtStatusPtr {
      *out = reinterpret_cast<const Shape*>(info)->size();
      return nullptr;
    };
    a.GetDimensions = [](const OrtTensorTypeAndShapeInfo* info, int64_t* out, size_t count) noexcept -> OrtStatusPtr {
      std::copy_n(reinterpret_cast<const Shape*>(info)->data(), count, out);
      return nullptr;
    };
    a.ReleaseTensorTypeAndShapeInfo = [](OrtTensorTypeAndShapeInfo*) noexcept {};
    return a;
  }();
  return &made;
}

}  // namespace fake

// Everything that the library registers.
inline const std::vector<const OrtCustomOp*>& operators_of_library() {
  if (fake::registered().empty()) {
    auto* enter = entry_point<OrtStatus*(OrtSessionOptions*, const OrtApiBase*)>("RegisterCustomOps");
    static const OrtApiBase base{fake::api, nullptr};
    if (enter == nullptr || enter(nullptr, &base) != nullptr) throw std::runtime_error("no operators in the library");
  }
  return fake::registered();
}

// The message of a status; empty for success.
inline std::string message_of(OrtStatus* status) {
  if (status == nullptr) return "";
  const std::unique_ptr<std::string> message(reinterpret_cast<std::string*>(status));
  return *message;
}

// Creates the kernel of a node and calls it once; returns its error message.
inline std::string run(const OrtCustomOp* op, FakeNode& node) {
  void* kernel = nullptr;
  const std::string refusal =
      message_of(op->CreateKernelV2(op, fake::api(0), fake::handle_of<const OrtKernelInfo>(node), &kernel));
  if (!refusal.empty()) return refusal;
  const std::string message = message_of(op->KernelComputeV2(kernel, fake::handle_of<OrtKernelContext>(node)));
  op->KernelDestroy(kernel);
  return message;
}

}  // namespace vimdeploy::testing
