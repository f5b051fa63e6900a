#include <deque>

#include "scan/cuda/plan.h"
#include "tensorrt/plugin_host.h"

namespace vimdeploy::testing {
namespace {

using nvinfer1::TensorFormat;

PluginPointer made(const Operator& op) {
  PluginPointer plugin = make(op.name, op.fields());
  if (plugin == nullptr) throw std::runtime_error("not made");
  return plugin;
}

bool is_supported(nvinfer1::IPluginV3& plugin, int32_t position,
                  const std::vector<nvinfer1::DynamicPluginTensorDesc>& tensors) {
  const auto inputs = static_cast<int32_t>(tensors.size()) - 1;
  return build(plugin).supportsFormatCombination(position, tensors.data(), inputs, 1);
}

int32_t configure(nvinfer1::IPluginV3& plugin, const std::vector<nvinfer1::DynamicPluginTensorDesc>& tensors) {
  const auto inputs = static_cast<int32_t>(tensors.size()) - 1;
  return build(plugin).configurePlugin(tensors.data(), inputs, &tensors.back(), 1);
}

size_t workspace(nvinfer1::IPluginV3& plugin, const std::vector<nvinfer1::DynamicPluginTensorDesc>& tensors) {
  const auto inputs = static_cast<int32_t>(tensors.size()) - 1;
  return build(plugin).getWorkspaceSize(tensors.data(), inputs, &tensors.back(), 1);
}

int32_t change_shape(nvinfer1::IPluginV3& plugin, const Call& call) {
  const auto tensors = call.tensors();
  return runtime(plugin).onShapeChange(tensors.data(), call.inputs(), &tensors.back(), 1);
}

// Tensors without memory: for calls that return before they access it.
int32_t enqueue(nvinfer1::IPluginV3& plugin, const std::vector<nvinfer1::PluginTensorDesc>& tensors) {
  const std::vector<const void*> inputs(tensors.size() - 1, nullptr);
  void* output = nullptr;
  return runtime(plugin).enqueue(tensors.data(), &tensors.back(), inputs.data(), &output, nullptr, nullptr);
}

TEST(Plugin, TakesLinearTensorsOfOneTypeAndItsFloat32Inputs) {
  for (const Operator& op : kOperators) {
    const PluginPointer plugin = made(op);
    for (DataType T : kTypes) {
      const Call call = op.call(T, 2, 5);
      const auto tensors = dynamic(call, call, call);
      for (int32_t position = 0; position < static_cast<int32_t>(tensors.size()); ++position) {
        EXPECT_TRUE(is_supported(*plugin, position, tensors)) << op.name << " " << position;
      }
    }
  }
}

TEST(Plugin, TakesNoOtherTypeOrFormat) {
  for (const Operator& op : kOperators) {
    const PluginPointer plugin = made(op);
    for (DataType T : kTypes) {
      const Call call = op.call(T, 2, 5);
      for (size_t position = 0; position < call.types.size(); ++position) {
        for (int32_t type = 0; type <= 9; ++type) {
          if (static_cast<DataType>(type) == call.types[position]) continue;
          auto tensors = dynamic(call, call, call);
          tensors[position].desc.type = static_cast<DataType>(type);
          const bool is_another_T =
              position == 0 && (type == 0 || type == 1 || static_cast<DataType>(type) == DataType::kBF16);
          EXPECT_EQ(is_supported(*plugin, static_cast<int32_t>(position), tensors), is_another_T)
              << op.name << " " << position << " type " << type;
        }
        for (int32_t format = 1; format <= 12; ++format) {
          auto tensors = dynamic(call, call, call);
          tensors[position].desc.format = static_cast<TensorFormat>(format);
          EXPECT_FALSE(is_supported(*plugin, static_cast<int32_t>(position), tensors));
        }
      }
      const auto tensors = dynamic(call, call, call);
      EXPECT_FALSE(build(*plugin).supportsFormatCombination(0, tensors.data(), call.inputs() - 1, 1));
      EXPECT_FALSE(build(*plugin).supportsFormatCombination(0, tensors.data(), call.inputs(), 2));
      EXPECT_FALSE(is_supported(*plugin, -1, tensors));
    }
  }
}

TEST(Plugin, GivesTheOutputTheTypeOfTheInputs) {
  for (const Operator& op : kOperators) {
    const PluginPointer plugin = made(op);
    EXPECT_EQ(build(*plugin).getNbOutputs(), 1);
    for (DataType T : kTypes) {
      const Call call = op.call(T, 2, 5);
      DataType output = DataType::kINT32;
      EXPECT_EQ(build(*plugin).getOutputDataTypes(&output, 1, call.types.data(), call.inputs()), 0);
      EXPECT_EQ(output, T);
    }
  }
}

TEST(Plugin, RefusesWrongTypesInOneSentence) {
  const PluginPointer plugin = made(kOperators[1]);
  const auto refused = [&](std::vector<DataType> inputs) {
    return stderr_of([&] {
      DataType output;
      EXPECT_NE(build(*plugin).getOutputDataTypes(&output, 1, inputs.data(), static_cast<int32_t>(inputs.size())), 0);
    });
  };
  constexpr DataType f16 = DataType::kHALF, f32 = DataType::kFLOAT, i32 = DataType::kINT32;
  EXPECT_EQ(
      refused({i32, i32, i32, i32, f32, f32, f32}),
      "[vimdeploy] BidirectionalSelectiveScan: input u has type DataType 3, wanted float32, float16 or bfloat16\n");
  EXPECT_EQ(refused({f16, f16, f32, f16, f32, f32, f32}),
            "[vimdeploy] BidirectionalSelectiveScan: input dt_bc has type float32, wanted float16\n");
  EXPECT_EQ(refused({f16, f16, f16, f16, f32, f16, f32}),
            "[vimdeploy] BidirectionalSelectiveScan: input A has type float16, wanted float32\n");
  EXPECT_EQ(refused({f16, f16}),
            "[vimdeploy] BidirectionalSelectiveScan: found 2 inputs and 1 outputs, wanted 7 and 1\n");
}

// Fake sizes of a network; the plugin only passes them on. TensorRT asks not to derive from these classes, because they
// may change in later versions; that does not matter for a test.
struct Size final : nvinfer1::IDimensionExpr {};
struct Sizes final : nvinfer1::IExprBuilder {};

TEST(Plugin, DerivesTheOutputsSizesFromTheInputs) {
  for (const Operator& op : kOperators) {
    const PluginPointer plugin = made(op);
    const Call call = op.call(DataType::kHALF, 7, 11);
    std::deque<Size> sizes;
    std::vector<nvinfer1::DimsExprs> inputs;
    std::vector<std::pair<const nvinfer1::IDimensionExpr*, int64_t>> values;
    for (size_t i = 0; i + 1 < call.shapes.size(); ++i) {
      auto& input = inputs.emplace_back();
      input.nbDims = 0;
      for (int64_t size : call.shapes[i]) {
        input.d[input.nbDims++] = &sizes.emplace_back();
        values.emplace_back(&sizes.back(), size);
      }
    }
    nvinfer1::DimsExprs output{};
    Sizes builder;
    ASSERT_EQ(build(*plugin).getOutputShapes(inputs.data(), call.inputs(), nullptr, 0, &output, 1, builder), 0);
    Shape found;
    for (int32_t axis = 0; axis < output.nbDims; ++axis) {
      for (const auto& [expression, size] : values) {
        if (expression == output.d[axis]) found.push_back(size);
      }
    }
    EXPECT_EQ(found, call.shapes.back());

    inputs[0].nbDims = 1;
    const std::string sentence = stderr_of([&] {
      EXPECT_NE(build(*plugin).getOutputShapes(inputs.data(), call.inputs(), nullptr, 0, &output, 1, builder), 0);
      EXPECT_NE(build(*plugin).getOutputShapes(inputs.data(), 1, nullptr, 0, &output, 1, builder), 0);
    });
    EXPECT_NE(sentence.find("has 1 axes, wanted"), std::string::npos) << sentence;
    EXPECT_NE(sentence.find("found 1 inputs"), std::string::npos) << sentence;
  }
}

TEST(Plugin, IsConfiguredForFixedAndOpenSizes) {
  for (const Operator& op : kOperators) {
    for (DataType T : kTypes) {
      const PluginPointer plugin = made(op);
      const Call least = op.call(T, 1, 5), best = op.call(T, 8, 17), most = op.call(T, 32, 40);
      EXPECT_EQ(configure(*plugin, dynamic(best, best, best)), 0);
      EXPECT_EQ(configure(*plugin, dynamic(least, best, most)), 0);
    }
  }
}

void expect_refused_everywhere(const Operator& op, const Call& call, const std::string& sentence) {
  const PluginPointer plugin = made(op);
  const std::string said = std::string("[vimdeploy] ") + op.name + ": " + sentence + "\n";
  const auto tensors = dynamic(call, call, call);
  EXPECT_EQ(stderr_of([&] { EXPECT_NE(configure(*plugin, tensors), 0); }), said);
  EXPECT_EQ(stderr_of([&] { EXPECT_EQ(workspace(*plugin, tensors), 0u); }), said);
  EXPECT_EQ(stderr_of([&] { EXPECT_NE(change_shape(*plugin, call), 0); }), said);
  EXPECT_EQ(stderr_of([&] { EXPECT_NE(enqueue(*plugin, call.tensors()), 0); }), said);
}

TEST(Plugin, RefusesWrongShapesAndTypesWhereverItMeetsThem) {
  const Operator &conv1d = kConvolution, &scan = kScan;
  Call call = scan.call(DataType::kHALF, 2, 5);
  call.shapes[1] = {2, 5, 13};
  expect_refused_everywhere(scan, call, "input xz has shape (2, 5, 13), wanted (B, L, 2E) = (2, 5, 12)");
  call = scan.call(DataType::kHALF, 2, 5);
  call.shapes[6] = {2, 7};
  expect_refused_everywhere(scan, call, "input D has shape (2, 7), wanted (K, E) = (2, 6)");
  call = scan.call(DataType::kHALF, 2, 5);
  call.types[4] = DataType::kHALF;
  expect_refused_everywhere(scan, call, "input dt_bias has type float16, wanted float32");
  call = conv1d.call(DataType::kFLOAT, 2, 5);
  call.types[3] = DataType::kHALF;
  expect_refused_everywhere(conv1d, call, "output u has type float16, wanted float32");
  call = conv1d.call(DataType::kFLOAT, 2, 5);
  call.shapes[1] = {3, 6, 4};  // three directions, but reverse has two
  expect_refused_everywhere(conv1d, call, "input weight has shape (3, 6, 4), wanted (K, E, W) = (2, 6, 4)");
  call = kOperators[2].call(DataType::kFLOAT, 2, 5);
  call.shapes[0] = {2, 5, 5};  // fewer than E
  expect_refused_everywhere(kOperators[2], call, "X (channels of x) is 5, wanted at least 6");
  call = kOperators[3].call(DataType::kFLOAT, 2, 5);
  call.shapes[3] = {2, 2, 5, 3};
  expect_refused_everywhere(kOperators[3], call, "input B has shape (2, 2, 5, 3), wanted (B, G, L, N) = (2, 2, 5, 4)");
  call = kOperators[4].call(DataType::kFLOAT, 2, 5);
  call.shapes[1] = {2, 2, 5, 0}, call.shapes[7] = {2, 6, 0};
  expect_refused_everywhere(kOperators[4], call, "R (rank) is 0, wanted at least 1");
  call = kOperators[4].call(DataType::kHALF, 2, 5);
  call.types[6] = DataType::kHALF;
  expect_refused_everywhere(kOperators[4], call, "input delta_bias has type float16, wanted float32");
}

TEST(Plugin, RefusesWhatTheKernelsCannotTake) {
  const Operator& scan = kScan;
  const SelectiveScanProblem problem{ElementType::float16, 1, 5, 6, 4, 100000, {0, 1}, 0.5f};
  const Call call = call_of(problem, DataType::kHALF);
  const auto tensors = dynamic(call, call, call);
  const std::string sentence = stderr_of([&] { EXPECT_NE(configure(*made(scan), tensors), 0); });
  EXPECT_NE(sentence.find("R (rank) is 100000"), std::string::npos) << sentence;
}

TEST(Plugin, RefusesAnotherFormatAtACall) {
  for (const Operator& op : kOperators) {
    const PluginPointer plugin = made(op);
    auto tensors = op.call(DataType::kHALF, 2, 5).tensors();
    tensors[1].format = TensorFormat::kHWC8;
    const std::string sentence = stderr_of([&] { EXPECT_NE(enqueue(*plugin, tensors), 0); });
    EXPECT_NE(sentence.find(" has TensorFormat "), std::string::npos) << sentence;
  }
}

TEST(Plugin, AnEmptyBatchIsNoWork) {
  for (const Operator& op : kOperators) {
    const PluginPointer plugin = made(op);
    EXPECT_EQ(enqueue(*plugin, op.call(DataType::kHALF, 0, 5).tensors()), 0);
    EXPECT_EQ(enqueue(*plugin, op.call(DataType::kHALF, 2, 0).tensors()), 0);
  }
}

// Also for smaller sizes, such as a batch between the smallest and the largest.
TEST(Plugin, AsksForAWorkspaceForTheLargestSizes) {
  const Operator &conv1d = kConvolution, &scan = kScan;
  const auto bytes = [](const Operator& op, int64_t least, int64_t most) {
    return workspace(*made(op), dynamic(op.call(DataType::kHALF, least, 6000), op.call(DataType::kHALF, least, 6000),
                                        op.call(DataType::kHALF, most, 6000)));
  };
  EXPECT_EQ(bytes(conv1d, 1, 8), 0u);
  EXPECT_GT(bytes(scan, 1, 1), 0u);
  EXPECT_EQ(bytes(scan, 1, 8), bytes(scan, 8, 8));
  EXPECT_GE(bytes(scan, 1, 8), bytes(scan, 1, 1));
}

std::vector<int32_t> tactics_of(const Operator& op, const std::vector<nvinfer1::DynamicPluginTensorDesc>& tensors) {
  const PluginPointer plugin = made(op);
  EXPECT_EQ(configure(*plugin, tensors), 0);
  std::vector<int32_t> tactics(static_cast<size_t>(build(*plugin).getNbTactics()));
  EXPECT_EQ(build(*plugin).getValidTactics(tactics.data(), static_cast<int32_t>(tactics.size())), 0);
  return tactics;
}

// The plans of every smaller problem fit, whatever the operator.
TEST(Plugin, AsksForAWorkspaceForEveryScan) {
  for (const Operator& op : kOperators) {
    const bool is_scan = std::holds_alternative<SelectiveScanProblem>(op.problem);
    const Call call = op.call(DataType::kHALF, 4, 6000);
    const size_t bytes = workspace(*made(op), dynamic(call, call, call));
    if (!is_scan) {
      EXPECT_EQ(bytes, 0u) << op.name;
      continue;
    }
    SelectiveScanProblem problem = std::get<SelectiveScanProblem>(op.problem);
    problem.batch = 4, problem.tokens = 6000;
    EXPECT_GE(bytes, cuda_plan_of(problem, {}, Schedule::three_launches).workspace_bytes + 256) << op.name;
  }
}

CudaFacts device_of(const Operator& op) {
  const PluginPointer plugin = made(op);  // which owns the fields
  const auto* kept = runtime(*plugin).getFieldsToSerialize();
  CudaFacts device;
  for (int32_t i = 0; i < kept->nbFields; ++i) {
    if (std::string(kept->fields[i].name) == "device") std::memcpy(&device, kept->fields[i].data, sizeof device);
  }
  return device;
}

// All that the device can launch.
TEST(Plugin, OffersTheScansSchedulesAsTacticsWhereSizesAreFixed) {
  const Operator& scan = kScan;
  const Call one = scan.call(DataType::kHALF, 1, 5), eight = scan.call(DataType::kHALF, 8, 5);
  const std::vector<int32_t> none;
  const bool has_clusters = device_of(scan).largest_cluster > 1;
  const auto schedules = has_clusters ? std::vector<int32_t>{1, 2, 3, 4} : std::vector<int32_t>{1, 3, 4};
  EXPECT_EQ(tactics_of(scan, dynamic(one, one, eight)), none);
  EXPECT_EQ(tactics_of(scan, dynamic(eight, eight, eight)), schedules);
  auto fixed_by_the_profile = dynamic(eight, eight, eight);
  fixed_by_the_profile[1].desc.dims.d[0] = -1;
  EXPECT_EQ(tactics_of(scan, fixed_by_the_profile), schedules);
  for (const Operator& op : kOperators) {
    const Call call = op.call(DataType::kHALF, 8, 5);
    const bool is_scan = std::holds_alternative<SelectiveScanProblem>(op.problem);
    EXPECT_EQ(tactics_of(op, dynamic(call, call, call)), is_scan ? schedules : none) << op.name;
  }
}

// Also those that it does not offer: an engine whose cluster was the fastest may run on a GPU without clusters.
TEST(Plugin, TakesTheTacticsOfEveryDeviceAndNoOther) {
  for (const Operator& op : kOperators) {
    const PluginPointer plugin = made(op);
    const int32_t last = std::holds_alternative<SelectiveScanProblem>(op.problem) ? 4 : 0;
    for (int32_t tactic = 0; tactic <= last; ++tactic) EXPECT_EQ(runtime(*plugin).setTactic(tactic), 0);
    for (int32_t tactic : {-1, last + 1}) {
      EXPECT_EQ(stderr_of([&] { EXPECT_NE(runtime(*plugin).setTactic(tactic), 0); }),
                std::string("[vimdeploy] ") + op.name + ": found tactic " + std::to_string(tactic) + ", wanted 0 to " +
                    std::to_string(last) + "\n");
    }
  }
}

TEST(Plugin, IsTimedByItsAttributes) {
  const auto identity = [](float scale, std::vector<int32_t> reverse) -> std::string {
    const PluginPointer plugin =
        make(kBidirectionalScanName, Fields().number("scale", scale).ints("reverse", std::move(reverse)));
    return build(*plugin).getTimingCacheID();
  };
  EXPECT_EQ(identity(0.5f, {0, 1}), identity(0.5f, {0, 1}));
  EXPECT_NE(identity(0.5f, {0, 1}), identity(1.0f, {0, 1}));
  EXPECT_NE(identity(0.5f, {0, 1}), identity(0.5f, {1, 0}));
  EXPECT_NE(identity(0.5f, {0, 1}).find("reverse 0 1 scale 0.5"), std::string::npos) << identity(0.5f, {0, 1});
  for (int32_t flag : {0, 1}) {
    const Fields fields = Fields().ints("reverse", {1}).ints("silu", {flag}).ints("delta_softplus", {flag});
    const auto ends_with = [&](const char* op, const std::string& end) {
      const PluginPointer plugin = make(op, fields);
      const std::string text = build(*plugin).getTimingCacheID();
      return text.size() > end.size() && text.substr(text.size() - end.size()) == end;
    };
    EXPECT_TRUE(ends_with(kCausalConv1dName, " reverse 1 silu " + std::to_string(flag)));
    EXPECT_TRUE(ends_with(kSelectiveScanName, " reverse 1 delta_softplus " + std::to_string(flag)));
    EXPECT_TRUE(ends_with(kLowRankScanName, " reverse 1 delta_softplus " + std::to_string(flag)));
  }
}

TEST(Plugin, AClonesStateIsTheOriginalsAndOutlivesIt) {
  for (const Operator& op : kOperators) {
    PluginPointer plugin = made(op);
    const Call first = op.call(DataType::kHALF, 1, 5), last = op.call(DataType::kHALF, 8, 5);
    ASSERT_EQ(configure(*plugin, dynamic(first, first, last)), 0);
    for (bool for_a_context : {false, true}) {
      const PluginPointer copy(for_a_context ? runtime(*plugin).attachToContext(nullptr) : plugin->clone());
      ASSERT_NE(copy, nullptr);
      EXPECT_EQ(build(*copy).getNbTactics(), 0);  // as configured: with dynamic shapes
    }
    const PluginPointer copy(plugin->clone());
    const std::string identity = build(*plugin).getTimingCacheID();
    plugin.reset();
    EXPECT_EQ(build(*copy).getTimingCacheID(), identity);
    const auto* kept = runtime(*copy).getFieldsToSerialize();
    EXPECT_STREQ(kept->fields[0].name, "reverse");
    EXPECT_EQ(static_cast<const int32_t*>(kept->fields[0].data)[1], 1);
  }
}

}  // namespace
}  // namespace vimdeploy::testing
