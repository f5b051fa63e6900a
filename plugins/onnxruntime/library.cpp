// The entry point by which ONNX Runtime takes in the operators: session_options.register_custom_ops_library(path).

#include "onnxruntime/custom_op.h"
#include "onnxruntime/operators.h"
#include "support/export.h"

namespace vimdeploy::onnxruntime {
namespace {

template <typename Operator>
void add_all_types(Ort::CustomOpDomain& domain) {
  // A schema switches a model's own function body off, so every type of the contract has to have a kernel.
  static const CustomOp<Operator> ops[] = {CustomOp<Operator>(ElementType::float32),
                                           CustomOp<Operator>(ElementType::float16),
                                           CustomOp<Operator>(ElementType::bfloat16)};
  for (const CustomOp<Operator>& op : ops) domain.Add(&op);
}

// Sessions refer to the domain as long as they live, and may outlive the library's static objects: it is never freed.
Ort::CustomOpDomain& domain_of_all_operators() {
  static Ort::CustomOpDomain& domain = *[] {
    auto* made = new Ort::CustomOpDomain("vimdeploy");
    add_all_types<Conv1d>(*made);
    add_all_types<SelectiveScan>(*made);
    return made;
  }();
  return domain;
}

}  // namespace
}  // namespace vimdeploy::onnxruntime

VIMDEPLOY_EXPORT OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  using namespace vimdeploy;
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    const OrtApi* oldest = base->GetApi(1);
    return oldest->CreateStatus(ORT_FAIL, "vimdeploy: this library needs ONNX Runtime 1.21 or newer");
  }
  Ort::InitApi(api);
  return onnxruntime::to_ort_status(guard([&]() -> Status {
    Ort::ThrowOnError(api->AddCustomOpDomain(options, onnxruntime::domain_of_all_operators()));
    return {};
  }));
}
