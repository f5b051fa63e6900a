// Hostile nodes at the library's own door: their attributes and shapes are decoded from bytes that anybody chose.
//
//   vimdeploy_fuzz_operators TRIALS SEED FILE   random bytes, which lie in FILE while they are tried
//   vimdeploy_fuzz_operators FILE               the bytes of a file
//
// Every tensor has memory of its exact size, so that AddressSanitizer (-DVIMDEPLOY_SANITIZE=address,undefined) detects
// a step beside it. With clang, -DVIMDEPLOY_LIBFUZZER and -fsanitize=fuzzer leave the bytes to libFuzzer.

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <random>

#include "onnxruntime/library_host.h"

namespace vimdeploy::testing {
namespace {

constexpr size_t kMaxElements = 1 << 20;  // of a tensor: no host has the memory for one that is enormous

// Draws numbers from bytes; zeros when there are none left.
class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : next_(data), end_(data + size) {}

  size_t below(size_t count) { return (next_ == end_ ? 0 : *next_++) % count; }

 private:
  const uint8_t* next_;
  const uint8_t* end_;
};

int64_t hostile_size(Bytes& bytes) {
  using Limits = std::numeric_limits<int64_t>;
  static const std::array<int64_t, 12> sizes = {
      0, 1, 2, 3, 7, -1, 1LL << 31, 1LL << 32, 1LL << 61, 1LL << 62, Limits::max(), Limits::min()};
  return sizes[bytes.below(sizes.size())];
}

// A node whose shapes fit each other, and then perhaps do not any more.
FakeNode node_from(Bytes& bytes, const std::string& name) {
  auto size = [&](size_t most) { return static_cast<int64_t>(bytes.below(most + 1)); };
  Sizes sizes;
  sizes.set('B', size(3));
  sizes.set('L', size(9));
  sizes.set('E', 1 + size(39));
  sizes.set('N', 1 + size(17));
  sizes.set('R', 1 + size(4));
  sizes.set('W', 1 + size(5));
  sizes.set('X', sizes.get('E') + size(9));
  sizes.set('K', 1 + size(2));
  sizes.set('G', sizes.get('K'));
  FakeNode node = node_of(name, sizes);
  for (int64_t& flag : node.reverse) flag = size(1);
  node.flag = size(1);
  node.scale = 0.5f;
  for (size_t edits = bytes.below(4); edits > 0; --edits) {
    Shape& shape = node.inputs[bytes.below(node.inputs.size())];
    switch (bytes.below(7)) {
      case 0:  // one size everywhere, so that the shapes still fit
        if (!shape.empty()) {
          const int64_t from = shape[bytes.below(shape.size())], to = hostile_size(bytes);
          for (Shape& other : node.inputs) std::replace(other.begin(), other.end(), from, to);
        }
        break;
      case 1:
        if (!shape.empty()) shape[bytes.below(shape.size())] = hostile_size(bytes);
        break;
      case 2:
        shape.push_back(hostile_size(bytes));
        break;
      case 3:
        if (!shape.empty()) shape.pop_back();
        break;
      case 4:
        node.reverse.assign(bytes.below(5), hostile_size(bytes));
        break;
      case 5:
        node.flag = hostile_size(bytes);
        break;
      default:
        node.scale = bytes.below(2) ? std::numeric_limits<float>::quiet_NaN() : 1e38f;
    }
  }
  return node;
}

// How many elements; none if no host could have the tensor.
bool count_elements(const Shape& shape, size_t& count) {
  count = std::count(shape.begin(), shape.end(), 0) > 0 ? 0 : 1;
  for (const int64_t size : shape) {
    if (size < 0) return false;
    if (count == 0) continue;
    if (static_cast<uint64_t>(size) > kMaxElements / count) return false;
    count *= static_cast<size_t>(size);
  }
  return true;
}

// The memory of the tensors of the node under trial, by the shape that stands for each.
std::map<const void*, std::unique_ptr<uint8_t[]>>& memory() {
  static std::map<const void*, std::unique_ptr<uint8_t[]>> tensors;
  return tensors;
}

const OrtApi* ORT_API_CALL api_with_memory(uint32_t) noexcept {
  static const OrtApi made = [] {
    OrtApi a = *fake::api(0);
    a.GetTensorMutableData = [](OrtValue* value, void** out) noexcept -> OrtStatusPtr {
      *out = memory()[value].get();
      return nullptr;
    };
    a.KernelContext_GetOutput = [](OrtKernelContext* context, size_t, const int64_t* sizes, size_t rank,
                                   OrtValue** out) noexcept -> OrtStatusPtr {
      auto& output = reinterpret_cast<FakeNode*>(context)->output;
      output.assign(sizes, sizes + rank);
      size_t count = 0;
      const auto& inputs = fake::node_of(context).inputs;
      const bool exist =
          std::all_of(inputs.begin(), inputs.end(), [&](const Shape& s) { return count_elements(s, count); });
      if (!exist || !count_elements(output, count)) {
        return reinterpret_cast<OrtStatus*>(new std::string("no host has the memory for such tensors"));
      }
      memory()[&output].reset(new uint8_t[count * sizeof(float)]);
      *out = fake::handle_of<OrtValue>(output);
      return nullptr;
    };
    a.KernelContext_ParallelFor = [](const OrtKernelContext*, void (*task)(void*, size_t), size_t count, size_t,
                                     void* user) noexcept -> OrtStatusPtr {
      for (size_t i = 0; i < count; ++i) task(user, i);
      return nullptr;
    };
    a.KernelInfoGetAllocator = [](const OrtKernelInfo*, OrtMemType, OrtAllocator** out) noexcept -> OrtStatusPtr {
      static OrtAllocator allocator{};
      allocator.Alloc = [](OrtAllocator*, size_t size) -> void* { return std::malloc(size); };
      allocator.Free = [](OrtAllocator*, void* data) { std::free(data); };
      *out = &allocator;
      return nullptr;
    };
    a.ReleaseStatus = [](OrtStatus* status) noexcept { delete reinterpret_cast<std::string*>(status); };
    a.GetErrorMessage = [](const OrtStatus* status) noexcept -> const char* {
      return reinterpret_cast<const std::string*>(status)->c_str();
    };
    a.GetErrorCode = [](const OrtStatus*) noexcept { return ORT_FAIL; };
    return a;
  }();
  return &made;
}

std::vector<const OrtCustomOp*> cpu_operators() {
  auto* enter = entry_point<OrtStatus*(OrtSessionOptions*, const OrtApiBase*)>("RegisterCustomOps");
  static const OrtApiBase base{api_with_memory, nullptr};
  if (enter == nullptr || enter(nullptr, &base) != nullptr) throw std::runtime_error("no operators in the library");
  std::vector<const OrtCustomOp*> found;
  for (const OrtCustomOp* op : fake::registered()) {
    if (op->GetExecutionProviderType(op) == std::string("CPUExecutionProvider")) found.push_back(op);
  }
  return found;
}

// Returns the refusal; empty if the node was computed or stands for none that a host could have.
std::string try_node(const uint8_t* data, size_t size) {
  static const std::vector<const OrtCustomOp*> operators = cpu_operators();
  Bytes bytes(data, size);
  const OrtCustomOp* op = operators[bytes.below(operators.size())];
  FakeNode node = node_from(bytes, op->GetName(op));
  std::minstd_rand numbers(static_cast<unsigned>(bytes.below(256)));
  memory().clear();
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    size_t count = 0;
    if (!count_elements(node.inputs[i], count)) continue;  // only its shape is there, to be checked
    const bool is_float = op->GetInputType(op, i) == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    const size_t length = count * (is_float ? sizeof(float) : sizeof(uint16_t));
    auto& tensor = memory()[&node.inputs[i]];
    tensor.reset(new uint8_t[length]);
    for (size_t at = 0; at < length; ++at) tensor[at] = static_cast<uint8_t>(numbers() >> 8);
  }
  return run(op, node);
}

}  // namespace
}  // namespace vimdeploy::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vimdeploy::testing::try_node(data, size);
  return 0;
}

#ifndef VIMDEPLOY_LIBFUZZER
int main(int count, char** arguments) {
  using vimdeploy::testing::try_node;
  if (count == 2) {
    std::ifstream file(arguments[1], std::ios::binary);
    const std::vector<char> data{std::istreambuf_iterator<char>(file), {}};
    const std::string refusal = try_node(reinterpret_cast<const uint8_t*>(data.data()), data.size());
    std::printf("%s\n", refusal.empty() ? "computed" : refusal.c_str());
    return 0;
  }
  if (count != 4) {
    std::fprintf(stderr, "usage: vimdeploy_fuzz_operators FILE | TRIALS SEED FILE\n");
    return 2;
  }
  const long trials = std::atol(arguments[1]);
  std::mt19937_64 random(static_cast<uint64_t>(std::atoll(arguments[2])));
  std::FILE* file = std::fopen(arguments[3], "wb");
  if (file == nullptr) return 2;
  std::setbuf(file, nullptr);
  long refused = 0;
  for (long i = 0; i < trials; ++i) {
    std::array<uint8_t, 48> data;
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(random());
    std::rewind(file);
    std::fwrite(data.data(), 1, data.size(), file);
    refused += try_node(data.data(), data.size()).empty() ? 0 : 1;
  }
  std::fclose(file);
  std::remove(arguments[3]);
  std::printf("%ld nodes: %ld computed, %ld refused in a sentence\n", trials, trials - refused, refused);
  return 0;
}
#endif
