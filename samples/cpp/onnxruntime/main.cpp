// classify_onnxruntime MODEL.onnx PICTURE...: a file of vimdeploy in ONNX Runtime, on a CPU.

#include <onnxruntime_cxx_api.h>
#include <vimdeploy.h>

#include <memory>

#include "common/check.h"
#include "common/program.h"

namespace {

using namespace classify;

Model model_of(const Ort::Session& session) {
  Ort::AllocatorWithDefaultOptions allocator;
  const Ort::ModelMetadata metadata = session.GetModelMetadata();
  std::map<std::string, std::string> entries;
  for (const Ort::AllocatedStringPtr& name : metadata.GetCustomMetadataMapKeysAllocated(allocator)) {
    entries[name.get()] = metadata.LookupCustomMetadataMapAllocated(name.get(), allocator).get();
  }
  return Model::from_metadata(entries);
}

// On the tensor's memory.
Ort::Value value_of(Tensor& tensor) {
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  return std::visit(
      [&](auto& values) {
        return Ort::Value::CreateTensor(memory, values.data(), values.size(), tensor.shape.data(), tensor.shape.size());
      },
      tensor.values);
}

Opened open(const std::string& path) {
  static const Ort::Env environment(ORT_LOGGING_LEVEL_FATAL);  // its errors come as exceptions
  Ort::SessionOptions options;
  options.DisableMemPattern();  // a plan of all tensors would be held beside the pieces of the first call
  Ort::ThrowOnError(VimdeployRegisterOperators(options, OrtGetApiBase()));
  auto session = std::make_shared<Ort::Session>(environment, path.c_str(), options);
  const Model model = model_of(*session);
  check(model.precision == "fp32" || model.precision == "int8",
        "it is in " + model.precision + ", for GPUs; on a CPU take the file that it was converted from");
  return {model, [session, model](Tensor& picture) {
            const Ort::Value images = value_of(picture);
            const char *input = model.input.c_str(), *output = model.output.c_str();
            const auto outputs = session->Run(Ort::RunOptions(), &input, &images, 1, &output, 1);
            const auto* logits = outputs[0].GetTensorData<float>();
            return std::vector<float>(logits, logits + outputs[0].GetTensorTypeAndShapeInfo().GetElementCount());
          }};
}

}  // namespace

int main(int count, char** arguments) { return run_program("classify_onnxruntime", count, arguments, open); }
