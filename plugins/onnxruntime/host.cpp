#include "onnxruntime/host.h"

#include <string>
#include <thread>

namespace vimdeploy::onnxruntime {
namespace {

// The type and shape of an input while the graph is loaded; -1 and "" stand for sizes not known.
struct KnownInput {
  ONNXTensorElementDataType type;
  std::vector<int64_t> sizes;
  std::vector<std::string> symbols;
};

KnownInput known_input(OrtShapeInferContext* context, size_t index) {
  const OrtApi& api = Ort::GetApi();
  OrtTensorTypeAndShapeInfo* raw = nullptr;
  Ort::ThrowOnError(api.ShapeInferContext_GetInputTypeShape(context, index, &raw));
  // The context owns `raw`, so this wrapper does not.
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

ParallelFor parallel_for_of(OrtKernelContext* context) {
  return {context, [](void* host, size_t count, void (*task)(void*, size_t), void* user) {
            Ort::KernelContext(static_cast<OrtKernelContext*>(host)).ParallelFor(task, count, 0, user);
          }};
}

CpuFacts cpu_facts() {
  static const unsigned threads = std::thread::hardware_concurrency();
  return {threads == 0 ? 1 : static_cast<int64_t>(threads)};
}

Scratch::Scratch(OrtKernelContext* context, size_t bytes) {
  static const auto* cpu = new Ort::MemoryInfo(Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault));
  if (bytes == 0) return;
  allocator_ = Ort::KernelContext(context).GetAllocator(**cpu);
  data_ = allocator_->Alloc(allocator_, bytes);
  if (data_ == nullptr) throw std::bad_alloc();
}

Scratch::~Scratch() {
  if (allocator_ == nullptr) return;
  allocator_->Free(allocator_, data_);
  Ort::GetApi().ReleaseAllocator(allocator_);
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
