// A host of the plugins without TensorRT: finds the library's creators, makes fields and tensors, captures messages.

#pragma once

#include <NvInferRuntime.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "scan/problem.h"
#include "scan/shapes.h"
#include "testing/random_tensors.h"

namespace vimdeploy::testing {

using nvinfer1::DataType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;
using PluginPointer = std::unique_ptr<nvinfer1::IPluginV3>;

template <typename Function>
Function* entry_point(const char* name) {
  static void* library = dlopen(VIMDEPLOY_TENSORRT_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  return library == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(library, name));
}

// The plugin registry of a real TensorRT, with the plugin library loaded, if VIMDEPLOY_TENSORRT_RUNTIME names
// TensorRT's library; test_registry.py sets it. Exits with 77 if the headers are of another major version.
inline nvinfer1::IPluginRegistry* real_registry() {
  static nvinfer1::IPluginRegistry* const registry = []() -> nvinfer1::IPluginRegistry* {
    const char* path = std::getenv("VIMDEPLOY_TENSORRT_RUNTIME");
    if (path == nullptr) return nullptr;
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw std::runtime_error(dlerror());
    if (reinterpret_cast<int32_t (*)()>(dlsym(library, "getInferLibMajorVersion"))() != NV_TENSORRT_MAJOR) {
      std::exit(77);
    }
    auto* found = reinterpret_cast<nvinfer1::IPluginRegistry* (*)()>(dlsym(library, "getPluginRegistry"))();
    if (found->loadLibrary(VIMDEPLOY_TENSORRT_LIBRARY) == nullptr) throw std::runtime_error("loadLibrary");
    return found;
  }();
  return registry;
}

inline nvinfer1::IPluginCreatorV3One& creator_of(const std::string& op) {
  using namespace nvinfer1;
  if (auto* registry = real_registry()) {
    auto* creator = registry->getCreator(op.c_str(), "1", "vimdeploy");
    if (creator != nullptr) return *static_cast<IPluginCreatorV3One*>(creator);
    throw std::runtime_error("no creator of " + op + " in the registry");
  }
  int32_t count = 0;
  auto* const* creators = entry_point<IPluginCreatorInterface* const*(int32_t&)>("getCreators")(count);
  for (int32_t i = 0; i < count; ++i) {
    auto* creator = static_cast<IPluginCreatorV3One*>(creators[i]);
    if (creator->getPluginName() == op) return *creator;
  }
  throw std::runtime_error("no creator of " + op);
}

// Fields as TensorRT's parser makes them. Called, for visit_attributes() of an operator, it adds the field of a value.
class Fields {
 public:
  void operator()(const char* name, const std::vector<int64_t>& numbers) {
    ints(name, {numbers.begin(), numbers.end()});
  }
  void operator()(const char* name, int64_t number) { ints(name, {static_cast<int32_t>(number)}); }
  void operator()(const char* name, float value) { number(name, value); }

  Fields& ints(const char* name, std::vector<int32_t> values) {
    const auto kept = keep(std::move(values));
    return raw({name, kept->data(), PluginFieldType::kINT32, static_cast<int32_t>(kept->size())});
  }
  Fields& number(const char* name, float value) { return raw({name, keep(value).get(), PluginFieldType::kFLOAT32, 1}); }
  Fields& raw(const PluginField& field) {
    fields_.push_back(field);
    return *this;
  }
  nvinfer1::PluginFieldCollection collection() const { return {static_cast<int32_t>(fields_.size()), fields_.data()}; }

 private:
  template <typename Value>
  std::shared_ptr<Value> keep(Value value) {
    auto kept = std::make_shared<Value>(std::move(value));
    values_.push_back(kept);
    return kept;
  }

  std::vector<std::shared_ptr<void>> values_;
  std::vector<PluginField> fields_;
};

inline PluginPointer make(const char* op, const Fields& fields,
                          nvinfer1::TensorRTPhase phase = nvinfer1::TensorRTPhase::kBUILD) {
  const auto collection = fields.collection();
  return PluginPointer(creator_of(op).createPlugin("node", &collection, phase));
}

// What `action` writes to standard error.
inline std::string stderr_of(const std::function<void()>& action) {
  ::testing::internal::CaptureStderr();
  action();
  return ::testing::internal::GetCapturedStderr();
}

inline nvinfer1::IPluginV3OneCore& core(nvinfer1::IPluginV3& plugin) {
  return *static_cast<nvinfer1::IPluginV3OneCore*>(
      plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kCORE));
}
inline nvinfer1::IPluginV3OneBuild& build(nvinfer1::IPluginV3& plugin) {
  return *static_cast<nvinfer1::IPluginV3OneBuild*>(
      plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kBUILD));
}
inline nvinfer1::IPluginV3OneRuntime& runtime(nvinfer1::IPluginV3& plugin) {
  return *static_cast<nvinfer1::IPluginV3OneRuntime*>(
      plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kRUNTIME));
}

inline nvinfer1::Dims dims_of(const Shape& shape) {
  nvinfer1::Dims dims{static_cast<int32_t>(shape.size()), {}};
  std::copy(shape.begin(), shape.end(), dims.d);
  return dims;
}

// The tensors of one call: the inputs, then the output.
struct Call {
  std::vector<DataType> types;
  std::vector<Shape> shapes;

  int32_t inputs() const { return static_cast<int32_t>(types.size()) - 1; }

  std::vector<nvinfer1::PluginTensorDesc> tensors() const {
    std::vector<nvinfer1::PluginTensorDesc> tensors;
    for (size_t i = 0; i < types.size(); ++i) {
      tensors.push_back({dims_of(shapes[i]), types[i], nvinfer1::TensorFormat::kLINEAR, 1.0f});
    }
    return tensors;
  }
};

inline Call call_of(const Conv1dProblem& p, DataType T) {
  const int64_t K = p.directions(), B = p.batch, L = p.tokens, E = p.channels, W = p.width;
  return {{T, T, T, T}, {{B, L, p.row}, {K, E, W}, {K, E}, {K, B, L, E}}};
}

inline Call call_of(const SelectiveScanProblem& p, DataType T) {
  const int64_t K = p.directions(), B = p.batch, L = p.tokens, E = p.channels, N = p.states, R = p.rank;
  constexpr DataType f32 = DataType::kFLOAT;
  if (p.is_gated) {
    return {{T, T, T, T, f32, f32, f32, T},
            {{K, B, L, E}, {B, L, 2 * E}, {K, B, L, R + 2 * N}, {K, E, R}, {K, E}, {K, E, N}, {K, E}, {B, L, E}}};
  }
  const Shape rows = {B, K, L, E}, states = {B, K, L, N};
  if (R == 0) return {{T, T, f32, T, T, f32, f32, T}, {rows, rows, {K, E, N}, states, states, {K, E}, {K, E}, rows}};
  return {{T, T, f32, T, T, f32, f32, T, T},
          {rows, {B, K, L, R}, {K, E, N}, states, states, {K, E}, {K, E}, {K, E, R}, rows}};
}

template <typename Problem>
Fields fields_of(const Problem& problem) {
  return with_operator(problem, [&](auto op) {
    Fields fields;
    op.visit_attributes(problem, fields);
    return fields;
  });
}

// An operator, for tests that run for all, with the problem that a call of it poses.
struct Operator {
  std::variant<Conv1dProblem, SelectiveScanProblem> problem;
  const char* name = std::visit([](const auto& p) { return p.name; }, problem);

  Call call(DataType T, int64_t B, int64_t L) const {
    return std::visit(
        [&](auto p) {
          p.batch = B, p.tokens = L;
          return call_of(p, T);
        },
        problem);
  }
  Fields fields() const {
    return std::visit([](const auto& p) { return fields_of(p); }, problem);
  }
};

inline const Operator kOperators[] = {
    {Conv1dProblem{ElementType::float32, 2, 5, 6, 4, {0, 1}}},
    {SelectiveScanProblem{ElementType::float32, 2, 5, 6, 4, 3, {0, 1}, 0.5f}},
    {causal_problem(ElementType::float32, 2, 5, 6, 4, {0, 1}, 9, 0)},
    {problem_of_groups(ElementType::float32, 2, 5, 6, 4, 0, {0, 1})},
    {problem_of_groups(ElementType::float32, 2, 5, 6, 4, 3, {0, 1}, 0)},
};
inline const Operator &kConvolution = kOperators[0], &kScan = kOperators[1];
inline constexpr DataType kTypes[] = {DataType::kFLOAT, DataType::kHALF, DataType::kBF16};

// As TensorRT describes a network's tensors: a size that is the same in `least`, `best` and `most`, else -1.
inline std::vector<nvinfer1::DynamicPluginTensorDesc> dynamic(const Call& least, const Call& best, const Call& most) {
  std::vector<nvinfer1::DynamicPluginTensorDesc> tensors;
  for (size_t i = 0; i < least.types.size(); ++i) {
    Shape known = least.shapes[i];
    for (size_t axis = 0; axis < known.size(); ++axis) {
      if (known[axis] != most.shapes[i][axis]) known[axis] = -1;
    }
    tensors.push_back({{dims_of(known), least.types[i], nvinfer1::TensorFormat::kLINEAR, 1.0f},
                       dims_of(least.shapes[i]),
                       dims_of(most.shapes[i]),
                       dims_of(best.shapes[i])});
  }
  return tensors;
}

}  // namespace vimdeploy::testing
