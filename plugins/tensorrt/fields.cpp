#include "tensorrt/fields.h"

#include <cstring>
#include <type_traits>

namespace vimdeploy::tensorrt {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

// Serialized as plain bytes: an engine is read on a machine of the same kind, by a library with the same struct.
static_assert(std::is_trivially_copyable_v<CudaFacts>);

void FieldReader::operator()(const char* name, std::vector<int64_t>& numbers) {
  const PluginField* field = find(name, PluginFieldType::kINT32, "a list of INT32");
  if (field == nullptr) return;
  std::vector<int32_t> values(static_cast<size_t>(field->length));
  if (!values.empty()) std::memcpy(values.data(), field->data, values.size() * sizeof(int32_t));
  numbers.assign(values.begin(), values.end());
}

void FieldReader::operator()(const char* name, int64_t& number) {
  int32_t value = static_cast<int32_t>(number);
  read_one(name, PluginFieldType::kINT32, "one INT32", &value, sizeof value);
  number = value;
}

void FieldReader::operator()(const char* name, float& number) {
  read_one(name, PluginFieldType::kFLOAT32, "one FLOAT32", &number, sizeof number);
}

void FieldReader::read_one(const char* name, PluginFieldType type, const char* wanted, void* number, size_t bytes) {
  const PluginField* field = find(name, type, wanted);
  if (field == nullptr) return;
  if (field->length != 1) return refuse(name, "has " + std::to_string(field->length) + " values", wanted);
  std::memcpy(number, field->data, bytes);
}

void FieldReader::operator()(const char* name, CudaFacts& device) {
  const char* wanted = "the bytes that this version of the library wrote: build the engine again";
  const PluginField* field = find(name, PluginFieldType::kUNKNOWN, wanted);
  if (field == nullptr) return;
  if (field->length != sizeof device) return refuse(name, "has " + std::to_string(field->length) + " bytes", wanted);
  std::memcpy(&device, field->data, sizeof device);
}

const PluginField* FieldReader::find(const char* name, PluginFieldType type, const char* wanted) {
  const int32_t count = fields_ == nullptr ? 0 : fields_->nbFields;
  for (int32_t i = 0; i < count; ++i) {
    const PluginField& field = fields_->fields[i];
    if (field.name == nullptr || std::strcmp(field.name, name) != 0) continue;
    const bool has_values = field.length == 0 || (field.length > 0 && field.data != nullptr);
    if (field.type == type && has_values) return &field;
    refuse(name, has_values ? "has PluginFieldType " + std::to_string(static_cast<int>(field.type)) : "has no values",
           wanted);
    return nullptr;
  }
  refuse(name, "is missing", wanted);
  return nullptr;
}

void FieldReader::refuse(const char* name, const std::string& found, const char* wanted) {
  if (!status_.ok()) return;
  status_ = Status::error(std::string(op_) + ": field " + name + " " + found + ", wanted " + wanted);
}

void FieldList::operator()(const char* name, const std::vector<int64_t>& numbers) {
  std::vector<int32_t> values;
  for (int64_t number : numbers) values.push_back(static_cast<int32_t>(number));
  add(name, PluginFieldType::kINT32, values.size(), values.data(), values.size() * sizeof(int32_t));
}

void FieldList::operator()(const char* name, const int64_t& number) {
  const auto value = static_cast<int32_t>(number);
  add(name, PluginFieldType::kINT32, 1, &value, sizeof value);
}

void FieldList::operator()(const char* name, const float& number) {
  add(name, PluginFieldType::kFLOAT32, 1, &number, sizeof number);
}

void FieldList::operator()(const char* name, const CudaFacts& device) {
  add(name, PluginFieldType::kUNKNOWN, sizeof device, &device, sizeof device);
}

void FieldList::add(const char* name, PluginFieldType type, size_t count, const void* data, size_t bytes) {
  const auto* first = static_cast<const unsigned char*>(data);
  // The address stays valid when values_ grows: a moved vector keeps its memory.
  const auto& kept = values_.emplace_back(first, first + bytes);
  fields_.emplace_back(name, kept.data(), type, static_cast<int32_t>(count));
  collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
}

void FieldText::operator()(const char* name, const std::vector<int64_t>& numbers) {
  text_ += std::string(" ") + name;
  for (int64_t number : numbers) text_ += " " + std::to_string(number);
}

void FieldText::operator()(const char* name, const int64_t& number) {
  text_ += std::string(" ") + name + " " + std::to_string(number);
}

void FieldText::operator()(const char* name, const float& number) {
  text_ += std::string(" ") + name + " " + std::to_string(number);
}

}  // namespace vimdeploy::tensorrt
