// What the library registers, and its kernels' answers to empty tensors, wrong shapes and a missing CUDA driver.

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <tuple>
#include <type_traits>

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

constexpr const char* kNames[] = {"BidirectionalConv1d", "BidirectionalSelectiveScan", "CausalConv1d", "SelectiveScan",
                                  "LowRankSelectiveScan"};

// Sizes that differ from each other, but for both directions.
Sizes sizes_of(int64_t batch) {
  Sizes sizes;
  for (auto [letter, size] : std::map<char, int64_t>{
           {'B', batch}, {'L', 5}, {'E', 4}, {'K', 2}, {'G', 2}, {'N', 7}, {'R', 3}, {'W', 6}, {'X', 9}}) {
    sizes.set(letter, size);
  }
  return sizes;
}

// The C++ side of the operator of that name: body(Operator()).
template <typename Body>
void with_operator(const std::string& name, Body&& body) {
  for_each_operator([&](auto op) {
    if (name == op.kName) body(op);
  });
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
    for (const char* name : kNames) {
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
  for (const OrtCustomOp* registered : operators_of_library()) {
    with_operator(registered->GetName(registered), [&](auto op) {
      ASSERT_EQ(registered->GetInputTypeCount(registered), std::size(op.kInputs));
      for (size_t i = 0; i < std::size(op.kInputs); ++i) {
        const std::string name = op.kInputs[i].name;
        const bool is_parameter = name == "A" || name == "D" || name == "dt_bias" || name == "delta_bias";
        EXPECT_EQ(registered->GetInputType(registered, i),
                  is_parameter ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : registered->GetOutputType(registered, 0));
      }
    });
  }
}

TEST(Library, AnEmptyOutputIsNoWorkOnAnyDevice) {
  for (const OrtCustomOp* registered : operators_of_library()) {
    const Sizes sizes = sizes_of(0);
    FakeNode node = node_of(registered->GetName(registered), sizes);
    EXPECT_EQ(run(registered, node), "");
    with_operator(registered->GetName(registered),
                  [&](auto op) { EXPECT_EQ(node.output, shape_of(op.kOutput, sizes)); });
  }
}

TEST(Library, WrongShapesAreASentenceOnAnyDevice) {
  for (const OrtCustomOp* registered : operators_of_library()) {
    const std::string name = registered->GetName(registered);
    with_operator(name, [&](auto op) {
      for (size_t i = 0; i < std::size(op.kInputs); ++i) {
        FakeNode node = node_of(name, sizes_of(1));
        node.inputs[i].push_back(2);
        const std::string begin = name + ": input " + op.kInputs[i].name + " has shape (";
        EXPECT_EQ(run(registered, node).rfind(begin, 0), 0u) << run(registered, node);
      }
    });
  }
}

TEST(Library, WrongAttributesAreASentenceOnAnyDevice) {
  for (const OrtCustomOp* registered : operators_of_library()) {
    const std::string name = registered->GetName(registered);
    FakeNode node = node_of(name, sizes_of(1));
    node.reverse[1] = 2;
    EXPECT_EQ(run(registered, node), name + ": attribute reverse[1] is 2, wanted 0 or 1");
    with_operator(name, [&](auto op) {
      auto problem = op.problem();
      op.visit_attributes(problem, [&](const char* attribute, auto& value) {
        if constexpr (std::is_same_v<decltype(value), int64_t&>) {
          FakeNode flagged = node_of(name, sizes_of(1));
          flagged.flag = -1;
          EXPECT_EQ(run(registered, flagged), name + ": attribute " + attribute + " is -1, wanted 0 or 1");
        }
      });
    });
  }
}

TEST(Library, WithoutADriverTheCudaKernelsSaySo) {
  if (!has_cuda_kernels()) GTEST_SKIP() << "the library was built without CUDA kernels";
  if (has_cuda_driver()) GTEST_SKIP() << "this machine has a CUDA driver";
  for (const char* name : kNames) {
    for (const OrtCustomOp* op : operators_on(kCuda, name)) {
      FakeNode node = node_of(name, sizes_of(1));
      EXPECT_EQ(run(op, node).rfind("making CUDA device 0 the current one: CUDA says cudaError", 0), 0u)
          << run(op, node);
    }
  }
}

}  // namespace
}  // namespace vimdeploy::testing
