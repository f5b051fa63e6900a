// Creates plugins of one operator: from a node's attributes at build time, from an engine's serialized fields at run
// time.

#pragma once

#include "tensorrt/plugin.h"

namespace vimdeploy::tensorrt {

// The defaults without a device: no engine can be built or run then, but a network can be defined.
inline CudaFacts facts_of_device() {
  CudaFacts facts;
  return read_cuda_facts(facts).ok() ? facts : CudaFacts();
}

template <typename Operator>
class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  Creator() {
    const auto unset = Operator::problem();
    Operator::visit_attributes(unset, fields_);
  }

  const char* getPluginName() const noexcept override { return Operator::kName; }
  const char* getPluginVersion() const noexcept override { return plugin_version(); }
  const char* getPluginNamespace() const noexcept override { return kDomain; }

  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return fields_.collection(); }

  nvinfer1::IPluginV3* createPlugin(const char*, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept override {
    nvinfer1::IPluginV3* plugin = nullptr;
    (void)logged([&]() -> Status {
      auto attributes = Operator::problem();
      FieldReader read(Operator::kName, fields);
      Operator::visit_attributes(attributes, read);
      CudaFacts device;
      if (phase == nvinfer1::TensorRTPhase::kRUNTIME) {
        read("device", device);
      } else {
        device = facts_of_device();
      }
      if (!read.status().ok()) return read.status();
      if (Status s = check_attributes(attributes); !s.ok()) return s;
      plugin = new Plugin<Operator>(std::move(attributes), device);
      return {};
    });
    return plugin;
  }

 private:
  FieldList fields_;
};

}  // namespace vimdeploy::tensorrt
