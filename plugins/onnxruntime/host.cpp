#include "onnxruntime/host.h"

#include <stdexcept>
#include <string>

namespace vimdeploy::onnxruntime {
namespace {

// Type and shape of an input when the graph is loaded; unknown sizes are -1 with symbol "".
struct KnownInput {
  ONNXTensorElementDataType type;
  std::vector<int64_t> sizes;
  std::vector<std::string> symbols;
};

KnownInput known_input(OrtShapeInferContext* context, size_t index) {
  const OrtApi& api = Ort::GetApi();
  OrtTensorTypeAndShapeInfo* raw = nullptr;
  Ort::ThrowOnError(api.ShapeInferContext_GetInputTypeShape(context, index, &raw));
  // A wrapper that does not own `raw`: the context does.
  const Ort::ConstTensorTypeAndShapeInfo info(raw);
  KnownInput input{info.GetElementType(), info.GetShape(), {}};
  std::vector<const char*> symbols(input.sizes.size(), "");
  if (!symbols.empty()) info.GetSymbolicDimensions(symbols.data(), symbols.size());
  for (const char* symbol : symbols) input.symbols.emplace_back(symbol ? symbol : "");
  return input;
}

}  // namespace

ONNXTensorElementDataType onnx_type(ElementType type) {
  switch (type) {
    case ElementType::float16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case ElementType::bfloat16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
    case ElementType::float32:
      break;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

OrtStatusPtr to_ort_status(const Status& status) noexcept {
  return status.ok() ? nullptr : Ort::GetApi().CreateStatus(ORT_INVALID_ARGUMENT, status.message().c_str());
}

KernelAllocator::KernelAllocator(const OrtKernelInfo* info) {
  OrtAllocator* allocator = nullptr;
  Ort::ThrowOnError(Ort::GetApi().KernelInfoGetAllocator(info, OrtMemTypeDefault, &allocator));
  allocator_.reset(allocator);
}

Scratch KernelAllocator::scratch(size_t bytes) const {
  if (bytes == 0) return {};
  void* data = nullptr;
  try {
    data = allocator_->Alloc(allocator_.get(), bytes);
  } catch (const std::exception&) {  // ONNX Runtime's arena throws through its C interface
  }
  if (data == nullptr) {
    throw std::runtime_error("vimdeploy: wanted " + std::to_string(bytes) +
                             " bytes of working memory, the device has not as much left; run smaller batches");
  }
  return Scratch(data, {allocator_.get()});
}

Scratch KernelAllocator::stream_scratch(OrtKernelContext* context, size_t bytes) const {
  if (bytes == 0) return {};
  // KernelContext_GetScratchBuffer aborts the process if memory is short (seen in 1.31). This allocation throws
  // instead, and leaves the memory in the arena for the next call. It is done for the largest size alone: once a stream
  // has used that memory, a request without a stream may not have it, and the arena would keep as much again.
  if (bytes > most_bytes_) {
    scratch(bytes).reset();
    most_bytes_ = bytes;
  }
  void* data = nullptr;
  Ort::ThrowOnError(Ort::GetApi().KernelContext_GetScratchBuffer(context, memory(), bytes, &data));
  return Scratch(data, {allocator_.get()});
}

Ort::ConstMemoryInfo KernelAllocator::memory() const {
  return Ort::ConstMemoryInfo(allocator_->Info(allocator_.get()));
}

std::vector<Shape> input_shapes(const Ort::KernelContext& context) {
  std::vector<Shape> shapes;
  for (size_t i = 0; i < context.GetInputCount(); ++i) {
    shapes.push_back(context.GetInput(i).GetTensorTypeAndShapeInfo().GetShape());
  }
  return shapes;
}

Status infer_output(OrtShapeInferContext* context, const std::vector<InputAxis>& output) {
  const OrtApi& api = Ort::GetApi();
  Shape sizes;
  std::vector<std::string> symbols;
  for (const InputAxis& from : output) {
    const KnownInput input = known_input(context, from.input);
    const bool is_known = from.axis < input.sizes.size();
    sizes.push_back(is_known ? input.sizes[from.axis] : -1);
    symbols.push_back(is_known ? input.symbols[from.axis] : "");
  }
  std::vector<const char*> symbol_pointers;
  for (const std::string& symbol : symbols) symbol_pointers.push_back(symbol.c_str());

  OrtTensorTypeAndShapeInfo* raw = nullptr;
  Ort::ThrowOnError(api.CreateTensorTypeAndShapeInfo(&raw));
  const Ort::TensorTypeAndShapeInfo info(raw);
  Ort::ThrowOnError(api.SetTensorElementType(raw, known_input(context, 0).type));
  Ort::ThrowOnError(api.SetDimensions(raw, sizes.data(), sizes.size()));
  Ort::ThrowOnError(api.SetSymbolicDimensions(raw, symbol_pointers.data(), symbol_pointers.size()));
  Ort::ThrowOnError(api.ShapeInferContext_SetOutputTypeShape(context, 0, raw));
  return {};
}

}  // namespace vimdeploy::onnxruntime
