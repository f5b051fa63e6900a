// What the library registers, told to a host that is not ONNX Runtime.

#include <gtest/gtest.h>
#include <onnxruntime_c_api.h>

#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "onnxruntime/library_under_test.h"

namespace vimdeploy::testing {
namespace {

std::vector<const OrtCustomOp*> registered;

OrtStatusPtr ORT_API_CALL create_domain(const char*, OrtCustomOpDomain** domain) noexcept {
  *domain = reinterpret_cast<OrtCustomOpDomain*>(&registered);
  return nullptr;
}

OrtStatusPtr ORT_API_CALL add_operator(OrtCustomOpDomain*, const OrtCustomOp* op) noexcept {
  registered.push_back(op);
  return nullptr;
}

OrtStatusPtr ORT_API_CALL add_domain(OrtSessionOptions*, OrtCustomOpDomain*) noexcept { return nullptr; }

const OrtApi* ORT_API_CALL api_of(uint32_t) noexcept {
  static const OrtApi api = [] {
    OrtApi made{};
    made.CreateCustomOpDomain = create_domain;
    made.CustomOpDomain_Add = add_operator;
    made.AddCustomOpDomain = add_domain;
    return made;
  }();
  return &api;
}

const std::vector<const OrtCustomOp*>& operators_of_library() {
  if (registered.empty()) {
    auto* enter = entry_point<OrtStatus*(OrtSessionOptions*, const OrtApiBase*)>("RegisterCustomOps");
    if (enter == nullptr) throw std::runtime_error("no entry point in " VIMDEPLOY_LIBRARY);
    static const OrtApiBase base{api_of, nullptr};
    EXPECT_EQ(enter(nullptr, &base), nullptr);
  }
  return registered;
}

bool has_cuda() {
  const std::string info = entry_point<const char*()>("VimdeployLibraryInfo")();
  return info.find("\"cuda_architectures\": []") == std::string::npos;
}

TEST(Library, RegistersEveryOperatorAndTypeOnEveryDevice) {
  using Entry = std::tuple<std::string, std::string, ONNXTensorElementDataType>;
  std::set<Entry> found, wanted;
  for (const OrtCustomOp* op : operators_of_library()) {
    found.emplace(op->GetExecutionProviderType(op), op->GetName(op), op->GetInputType(op, 0));
  }
  std::vector<std::string> providers = {"CPUExecutionProvider"};
  if (has_cuda()) providers.emplace_back("CUDAExecutionProvider");
  for (const std::string& provider : providers) {
    for (const char* name : {"BidirectionalConv1d", "BidirectionalSelectiveScan"}) {
      for (auto type : {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
                        ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16}) {
        wanted.emplace(provider, name, type);
      }
    }
  }
  EXPECT_EQ(found, wanted);
  EXPECT_EQ(operators_of_library().size(), wanted.size());
}

TEST(Library, TheScansParametersAreFloat32WhateverItsTypeIs) {
  for (const OrtCustomOp* op : operators_of_library()) {
    const bool is_scan = op->GetName(op) == std::string("BidirectionalSelectiveScan");
    ASSERT_EQ(op->GetInputTypeCount(op), is_scan ? 7u : 3u);
    for (size_t i = 0; i < op->GetInputTypeCount(op); ++i) {
      EXPECT_EQ(op->GetInputType(op, i),
                is_scan && i >= 4 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : op->GetOutputType(op, 0));
    }
  }
}

}  // namespace
}  // namespace vimdeploy::testing
