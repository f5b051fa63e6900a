// Registers the operators in ONNX Runtime: RegisterCustomOps for session_options.register_custom_ops_library(path),
// VimdeployRegisterOperators for programs that are linked against the library.

#include "c_api/vimdeploy.h"
#include "onnxruntime/devices.h"
#include "onnxruntime/host.h"
#include "support/export.h"
#include "support/guard.h"

namespace vimdeploy::onnxruntime {
namespace {

// Sessions refer to the domain and may outlive the library's static objects, so it is never freed.
Ort::CustomOpDomain& domain_of_all_operators() {
  static Ort::CustomOpDomain& domain = *[] {
    auto* made = new Ort::CustomOpDomain(kDomain);
    add_cpu_operators(*made);
    add_cuda_operators(*made);
    return made;
  }();
  return domain;
}

}  // namespace
}  // namespace vimdeploy::onnxruntime

VIMDEPLOY_EXPORT OrtStatus* VimdeployRegisterOperators(OrtSessionOptions* options, const OrtApiBase* base) {
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

VIMDEPLOY_EXPORT OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  return VimdeployRegisterOperators(options, base);
}
