// Runs every plugin on the device as TensorRT does, without TensorRT: creates them for a build, asks for the workspace,
// serializes them, creates them again, attaches them to a context, sets a tactic, and calls enqueue on a stream.
// Compares every result with the plain loops. Prints a line for each case; exits with 1 if one fails, with 77 without a
// device.

#include <cstdio>
#include <random>

#include "scan/reference/operators.h"
#include "tensorrt/plugin_host.h"
#include "testing/compare.h"
#include "testing/cuda_device.h"
#include "testing/expectations.h"

namespace vimdeploy::testing {
namespace {

constexpr DataType type_of(ElementType type) {
  return type == ElementType::float32   ? DataType::kFLOAT
         : type == ElementType::float16 ? DataType::kHALF
                                        : DataType::kBF16;
}

void expect(bool is_good, const char* what) {
  if (!is_good) throw std::runtime_error(what);
}

// The plugin of an engine whose batch goes up to `most`: configured for the build, serialized and created again.
class Engine {
 public:
  Engine(PluginPointer built, const Call& call, const Call& most) {
    expect(built != nullptr, "createPlugin refused the fields");
    const auto tensors = dynamic(call, call, most);
    expect(build(*built).configurePlugin(tensors.data(), call.inputs(), &tensors.back(), 1) == 0, "configurePlugin");
    workspace_bytes_ = build(*built).getWorkspaceSize(tensors.data(), call.inputs(), &tensors.back(), 1);
    tactics_ = build(*built).getNbTactics();
    const auto* kept = runtime(*built).getFieldsToSerialize();
    plugin_.reset(
        creator_of(core(*built).getPluginName()).createPlugin("node", kept, nvinfer1::TensorRTPhase::kRUNTIME));
    expect(plugin_ != nullptr, "createPlugin refused what the engine kept");
  }

  int32_t tactics() const { return tactics_; }

  void run(const Call& call, const std::vector<const void*>& inputs, int32_t tactic, const DeviceMemory& output) const {
    const PluginPointer attached(runtime(*plugin_).attachToContext(nullptr));
    expect(attached != nullptr, "attachToContext");
    const auto tensors = call.tensors();
    auto& running = runtime(*attached);
    expect(running.setTactic(tactic) == 0, "setTactic");
    expect(running.onShapeChange(tensors.data(), call.inputs(), &tensors.back(), 1) == 0, "onShapeChange");
    const DeviceMemory workspace(workspace_bytes_);
    const Stream stream;
    void* outputs[] = {output.data()};
    expect(running.enqueue(tensors.data(), &tensors.back(), inputs.data(), outputs, workspace.data(), stream) == 0,
           "enqueue");
    stream.wait();
    expect(workspace.is_intact() && output.is_intact(), "written outside of the workspace or of the output");
  }

 private:
  PluginPointer plugin_;
  size_t workspace_bytes_ = 0;
  int32_t tactics_ = 0;
};

Tensor wanted_of(const Conv1dCase& c) {
  Tensor wanted = c.output();
  conv1d_reference(c.problem, c.tensors(wanted));
  return wanted;
}

Tensor wanted_of(const SelectiveScanCase& c) {
  Tensor wanted = c.output();
  selective_scan_reference(c.problem, c.tensors(wanted));
  return wanted;
}

// Whether an engine agrees with the plain loop, with every tactic, and also if it is built for larger batches.
template <typename Case>
bool agrees(const Case& c) {
  const auto inputs = on_device(c.inputs());
  const Tensor wanted = wanted_of(c);
  const Call call = call_of(c.problem, type_of(c.problem.type));
  const auto magnitude = magnitudes(c);
  bool is_good = true;
  for (int64_t more : {0, 3}) {
    auto largest = c.problem;
    largest.batch += more;
    const Engine engine(make(c.problem.name, fields_of(c.problem)), call, call_of(largest, type_of(c.problem.type)));
    for (int32_t tactic = 0; tactic <= engine.tactics(); ++tactic) {
      const DeviceMemory output(wanted.bytes.size());
      Tensor found = wanted;
      engine.run(call, pointers_to(inputs), tactic, output);
      output.copy_to(found);
      const auto verdict = is_close(found, wanted, magnitude, roundings(c.problem), output_shape(c.problem));
      std::printf("%s %s of at most B %d, tactic %d%s%s\n", verdict ? "ok  " : "FAIL", describe(c.problem).c_str(),
                  static_cast<int>(largest.batch), tactic, verdict ? "" : ": ", verdict.message());
      is_good = is_good && verdict;
    }
  }
  return is_good;
}

bool all_agree(uint32_t seed) {
  bool is_good = true;
  for (ElementType type : kElementTypes) {
    for (auto [batch, tokens, channels] : {std::array<int64_t, 3>{2, 35, 33}, {1, 197, 384}, {1, 2000, 72}}) {
      is_good = agrees(Conv1dCase({type, batch, tokens, channels, 4, {0, 1}}, seed)) && is_good;
      is_good = agrees(SelectiveScanCase({type, batch, tokens, channels, 16, 12, {0, 1}, 0.5f}, seed)) && is_good;
      is_good =
          agrees(Conv1dCase(causal_problem(type, batch, tokens, channels, 4, {0}, channels + 5, 0), seed)) && is_good;
      for (int64_t rank : {0, 6}) {
        for (int64_t states : {1, 8, 16}) {
          is_good =
              agrees(SelectiveScanCase(problem_of_groups(type, batch, tokens, channels, states, rank, {0, 1}), seed)) &&
              is_good;
        }
      }
    }
  }
  return is_good;
}

}  // namespace
}  // namespace vimdeploy::testing

int main() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    std::printf("no CUDA device: %s\n", error == cudaSuccess ? "none is there" : cudaGetErrorString(error));
    return 77;
  }
  try {
    const uint32_t seed = std::random_device()();
    std::printf("seed %u\n", seed);
    return vimdeploy::testing::all_agree(seed) ? 0 : 1;
  } catch (const std::exception& problem) {
    std::printf("FAIL %s\n", problem.what());
    return 1;
  }
}
