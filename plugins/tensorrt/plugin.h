// An operator of operators.h as a TensorRT plugin: check, convert, call. A plugin keeps its attributes, its device and
// the tactic; sizes and types are read at every call.

#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tensorrt/fields.h"
#include "tensorrt/log.h"
#include "tensorrt/kernels.h"
#include "tensorrt/tensors.h"

namespace vimdeploy::tensorrt {

// The operators' version as text, as TensorRT takes versions.
inline const char* plugin_version() {
  static const std::string version = std::to_string(kOperatorsVersion);
  return version.c_str();
}

template <typename Operator>
class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
 public:
  using Problem = typename Operator::Problem;
  using Kernels = tensorrt::Kernels<Problem>;
  using Tensor = nvinfer1::PluginTensorDesc;
  using DynamicTensor = nvinfer1::DynamicPluginTensorDesc;

  // `device` is the one that the engine is built on. It may run on another: its workspace stays the one that was
  // requested here, see facts_to_plan_with().
  Plugin(Problem attributes, const CudaFacts& device) : attributes_(std::move(attributes)), device_(device) {
    const auto fields = std::make_shared<FieldList>();
    Operator::visit_attributes(attributes_, *fields);
    (*fields)("device", device_);
    fields_ = fields;

    FieldText text;
    Operator::visit_attributes(attributes_, text);
    identity_ = "vimdeploy " VIMDEPLOY_VERSION + text.text();
  }

  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override {
    switch (type) {
      case nvinfer1::PluginCapabilityType::kCORE:
        return static_cast<nvinfer1::IPluginV3OneCore*>(this);
      case nvinfer1::PluginCapabilityType::kBUILD:
        return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
      case nvinfer1::PluginCapabilityType::kRUNTIME:
        return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
  }

  nvinfer1::IPluginV3* clone() noexcept override {
    nvinfer1::IPluginV3* copy = nullptr;
    (void)logged([&]() -> Status {
      copy = new Plugin(*this);
      return {};
    });
    return copy;
  }

  // Core

  const char* getPluginName() const noexcept override { return Operator::kName; }
  const char* getPluginVersion() const noexcept override { return plugin_version(); }
  const char* getPluginNamespace() const noexcept override { return kDomain; }

  // Build

  int32_t getNbOutputs() const noexcept override { return 1; }

  int32_t getOutputDataTypes(nvinfer1::DataType* outputs, int32_t output_count, const nvinfer1::DataType* inputs,
                             int32_t input_count) const noexcept override {
    return logged([&]() -> Status {
      if (Status s = check_counts<Operator>(input_count, output_count); !s.ok()) return s;
      for (size_t i = 0; i < std::size(Operator::kInputs); ++i) {
        if (Status s = check_type<Operator>(i, inputs[i], inputs[0]); !s.ok()) return s;
      }
      outputs[0] = inputs[0];
      return {};
    });
  }

  int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count, const nvinfer1::DimsExprs*, int32_t,
                          nvinfer1::DimsExprs* outputs, int32_t output_count,
                          nvinfer1::IExprBuilder&) noexcept override {
    return logged([&]() -> Status {
      if (Status s = check_counts<Operator>(input_count, output_count); !s.ok()) return s;
      outputs[0].nbDims = 0;
      for (const InputAxis& from : output_axes<Operator>()) {
        const auto rank = static_cast<size_t>(inputs[from.input].nbDims);
        if (from.axis >= rank) {
          return Status::error(name_of_tensor<Operator>(from.input) + " has " + std::to_string(rank) +
                               " axes, wanted more than " + std::to_string(from.axis));
        }
        outputs[0].d[outputs[0].nbDims++] = inputs[from.input].d[from.axis];
      }
      return {};
    });
  }

  bool supportsFormatCombination(int32_t position, const DynamicTensor* tensors, int32_t input_count,
                                 int32_t output_count) noexcept override {
    if (!are_counts_right<Operator>(input_count, output_count) || position < 0 || position > input_count) return false;
    const nvinfer1::DataType wanted = wanted_type<Operator>(static_cast<size_t>(position), tensors[0].desc.type);
    const Tensor& tensor = tensors[position].desc;
    return tensor.format == nvinfer1::TensorFormat::kLINEAR && tensor.type == wanted && element_type(wanted);
  }

  int32_t configurePlugin(const DynamicTensor* inputs, int32_t input_count, const DynamicTensor* outputs,
                          int32_t output_count) noexcept override {
    return logged([&]() -> Status {
      if (Status s = check_counts<Operator>(input_count, output_count); !s.ok()) return s;
      for (Bound bound : {&DynamicTensor::min, &DynamicTensor::opt, &DynamicTensor::max}) {
        Problem problem = attributes_;
        if (Status s = read(all_at(bound, inputs, outputs), problem); !s.ok()) return s;
      }
      if (std::any_of(inputs, inputs + input_count, has_open_sizes)) tactics_.clear();
      return {};
    });
  }

  size_t getWorkspaceSize(const DynamicTensor* inputs, int32_t input_count, const DynamicTensor* outputs,
                          int32_t output_count) const noexcept override {
    size_t bytes = 0;
    (void)logged([&]() -> Status {
      if (Status s = check_counts<Operator>(input_count, output_count); !s.ok()) return s;
      Problem largest = attributes_;
      if (Status s = read(all_at(&DynamicTensor::max, inputs, outputs), largest); !s.ok()) return s;
      bytes = Kernels::workspace_bytes(largest, device_);
      return {};
    });
    return bytes;
  }

  // A tactic is timed at one size and then used for all sizes of the engine. With dynamic shapes none is offered:
  // tactic 0 chooses the fastest schedule at every size.
  int32_t getNbTactics() noexcept override { return static_cast<int32_t>(tactics_.size()); }

  int32_t getValidTactics(int32_t* tactics, int32_t count) noexcept override {
    std::copy_n(tactics_.begin(), std::min(count, getNbTactics()), tactics);
    return 0;
  }

  const char* getTimingCacheID() noexcept override { return identity_.c_str(); }
  const char* getMetadataString() noexcept override { return identity_.c_str(); }

  // Runtime

  int32_t setTactic(int32_t tactic) noexcept override {
    return logged([&]() -> Status {
      if (tactic < 0 || tactic > Kernels::kLastTactic) {
        return Status::error(std::string(Operator::kName) + ": found tactic " + std::to_string(tactic) +
                             ", wanted 0 to " + std::to_string(Kernels::kLastTactic));
      }
      tactic_ = tactic;
      return {};
    });
  }

  int32_t onShapeChange(const Tensor* inputs, int32_t input_count, const Tensor* outputs,
                        int32_t output_count) noexcept override {
    return logged([&]() -> Status {
      if (Status s = check_counts<Operator>(input_count, output_count); !s.ok()) return s;
      Problem problem = attributes_;
      return read(all_of(inputs, outputs), problem);
    });
  }

  int32_t enqueue(const Tensor* input_tensors, const Tensor* output_tensors, const void* const* inputs,
                  void* const* outputs, void* workspace, cudaStream_t stream) noexcept override {
    return logged([&]() -> Status {
      Problem problem = attributes_;
      if (Status s = read(all_of(input_tensors, output_tensors), problem); !s.ok()) return s;
      const Shape shape = output_shape(problem);
      if (std::count(shape.begin(), shape.end(), 0) > 0) return {};
      const auto tensors = Operator::tensors(problem, inputs, outputs[0]);
      return Kernels::run(problem, device_, tactic_, tensors, {workspace, stream});
    });
  }

  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override { return clone(); }

  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override { return fields_->collection(); }

 private:
  Status read(const std::vector<Tensor>& tensors, Problem& problem) const {
    if (Status s = read_tensors<Operator>(tensors, problem); !s.ok()) return s;
    return check(problem, device_);
  }

  static std::vector<Tensor> all_of(const Tensor* inputs, const Tensor* output) {
    std::vector<Tensor> tensors(inputs, inputs + std::size(Operator::kInputs));
    tensors.push_back(*output);
    return tensors;
  }

  static std::vector<Tensor> all_at(Bound bound, const DynamicTensor* inputs, const DynamicTensor* output) {
    std::vector<Tensor> tensors;
    for (size_t i = 0; i < std::size(Operator::kInputs); ++i) tensors.push_back(tensor_at(bound, inputs[i]));
    tensors.push_back(tensor_at(bound, *output));
    return tensors;
  }

  Problem attributes_;
  CudaFacts device_;
  int32_t tactic_ = 0;
  std::vector<int32_t> tactics_ = Kernels::tactics(device_);  // to be timed
  std::shared_ptr<const FieldList> fields_;                   // what is serialized into an engine; shared by all clones
  std::string identity_;
};

}  // namespace vimdeploy::tensorrt
