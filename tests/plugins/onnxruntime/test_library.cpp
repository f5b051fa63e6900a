// What the library registers, and its kernels' answers to empty tensors, wrong shapes and a missing CUDA driver.

#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "onnxruntime/library_host.h"

namespace vimdeploy::testing {
namespace {

constexpr const char* kCuda = "CUDAExecutionProvider";

bool has_cuda_kernels() {
  const std::string info = entry_point<const char*()>("VimdeployLibraryInfo")();
  return info.find("\"cuda_architectures\": []") == std::string::npos;
}

bool has_cuda_driver() { return load("libcuda.so.1") != nullptr || load("nvcuda.dll") != nullptr; }

std::vector<const OrtCustomOp*> operators_on(const std::string& provider, const std::string& name) {
  std::vector<const OrtCustomOp*> found;
  for (const OrtCustomOp* op : operators_of_library()) {
    if (op->GetExecutionProviderType(op) == provider && op->GetName(op) == name) found.push_back(op);
  }
  return found;
}

FakeNode conv1d(int64_t batch) { return {{0, 1}, 1, {{batch, 5, 8}, {2, 4, 3}, {2, 4}}, {}}; }

FakeNode selective_scan(int64_t batch) {
  return {{0, 1}, 0.5f, {{2, batch, 5, 4}, {batch, 5, 8}, {2, batch, 5, 7}, {2, 4, 3}, {2, 4}, {2, 4, 2}, {2, 4}}, {}};
}

TEST(Library, RegistersEveryOperatorAndTypeOnEveryDevice) {
  using Entry = std::tuple<std::string, std::string, ONNXTensorElementDataType>;
  std::set<Entry> found, wanted;
  for (const OrtCustomOp* op : operators_of_library()) {
    found.emplace(op->GetExecutionProviderType(op), op->GetName(op), op->GetInputType(op, 0));
  }
  std::vector<std::string> providers = {"CPUExecutionProvider"};
  if (has_cuda_kernels()) providers.emplace_back(kCuda);
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

TEST(Library, AnEmptyOutputIsNoWorkOnAnyDevice) {
  for (const OrtCustomOp* op : operators_of_library()) {
    const bool is_scan = op->GetName(op) == std::string("BidirectionalSelectiveScan");
    FakeNode node = is_scan ? selective_scan(0) : conv1d(0);
    EXPECT_EQ(run(op, node), "");
    EXPECT_EQ(node.output, is_scan ? Shape({0, 5, 4}) : Shape({2, 0, 5, 4}));
  }
}

TEST(Library, WrongShapesAreASentenceOnAnyDevice) {
  for (const OrtCustomOp* op : operators_of_library()) {
    const bool is_scan = op->GetName(op) == std::string("BidirectionalSelectiveScan");
    FakeNode node = is_scan ? selective_scan(1) : conv1d(1);
    node.inputs.back() = {2, 5};
    EXPECT_NE(run(op, node).find("has shape (2, 5), wanted (K, E) = (2, 4)"), std::string::npos) << run(op, node);
  }
}

TEST(Library, WithoutADriverTheCudaKernelsSaySo) {
  if (!has_cuda_kernels()) GTEST_SKIP() << "the library was built without CUDA kernels";
  if (has_cuda_driver()) GTEST_SKIP() << "this machine has a CUDA driver";
  for (const char* name : {"BidirectionalConv1d", "BidirectionalSelectiveScan"}) {
    for (const OrtCustomOp* op : operators_on(kCuda, name)) {
      FakeNode node = name == std::string("BidirectionalConv1d") ? conv1d(1) : selective_scan(1);
      EXPECT_EQ(run(op, node).rfind("making CUDA device 0 the current one: CUDA says cudaError", 0), 0u)
          << run(op, node);
    }
  }
}

}  // namespace
}  // namespace vimdeploy::testing
