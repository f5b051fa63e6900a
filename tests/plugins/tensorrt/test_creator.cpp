#include "tensorrt/plugin_host.h"

namespace vimdeploy::testing {
namespace {

TEST(Creator, SaysWhatItMakes) {
  for (const Operator& op : kOperators) {
    auto& creator = creator_of(op.name);
    EXPECT_STREQ(creator.getPluginVersion(), "1");
    EXPECT_STREQ(creator.getPluginNamespace(), "vimdeploy");
    const auto* names = creator.getFieldNames();
    const Fields wanted = op.fields();
    const auto fields = wanted.collection();
    ASSERT_EQ(names->nbFields, fields.nbFields);
    EXPECT_STREQ(names->fields[0].name, "reverse");
    for (int32_t i = 0; i < fields.nbFields; ++i) {
      EXPECT_STREQ(names->fields[i].name, fields.fields[i].name);
      EXPECT_EQ(names->fields[i].type, fields.fields[i].type);
    }
  }
}

TEST(Creator, MakesAPluginThatSaysTheSame) {
  for (const Operator& op : kOperators) {
    const PluginPointer plugin = make(op.name, op.fields());
    ASSERT_NE(plugin, nullptr);
    EXPECT_STREQ(core(*plugin).getPluginName(), op.name);
    EXPECT_STREQ(core(*plugin).getPluginVersion(), "1");
    EXPECT_STREQ(core(*plugin).getPluginNamespace(), "vimdeploy");
    EXPECT_EQ(plugin->getCapabilityInterface(static_cast<nvinfer1::PluginCapabilityType>(7)), nullptr);
  }
}

TEST(Creator, PassesOverFieldsOfTensorRT) {
  for (const Operator& op : kOperators) {
    Fields fields = op.fields();
    fields.raw({"plugin_namespace", "vimdeploy", PluginFieldType::kCHAR, 10});
    fields.raw({"plugin_version", "1", PluginFieldType::kCHAR, 2});
    fields.raw({nullptr, nullptr, PluginFieldType::kINT32, 1});
    EXPECT_NE(make(op.name, fields), nullptr);
  }
}

void expect_refused(const char* op, const Fields& fields, const std::string& sentence) {
  const std::string found = stderr_of([&] { EXPECT_EQ(make(op, fields), nullptr) << sentence; });
  EXPECT_EQ(found, "[vimdeploy] " + (op + (": " + sentence)) + "\n");
}

TEST(Creator, RefusesWrongFieldsInOneSentence) {
  for (const Operator& op : kOperators) {
    const auto others = [] { return Fields().number("scale", 0.5f).ints("silu", {1}).ints("delta_softplus", {1}); };
    const auto with_reverse = [&](std::vector<int32_t> reverse) {
      return others().ints("reverse", std::move(reverse));
    };
    const int32_t flags[] = {0, 1};
    const auto raw = [&](const void* data, PluginFieldType type, int32_t length) {
      return others().raw({"reverse", data, type, length});
    };
    expect_refused(op.name, others(), "field reverse is missing, wanted a list of INT32");
    expect_refused(op.name, with_reverse({}),
                   "attribute reverse is empty, wanted one flag (0 or 1) per direction or group");
    expect_refused(op.name, with_reverse({0, 2}), "attribute reverse[1] is 2, wanted 0 or 1");
    expect_refused(op.name, with_reverse({-1}), "attribute reverse[0] is -1, wanted 0 or 1");
    expect_refused(op.name, raw(flags, PluginFieldType::kINT64, 1),
                   "field reverse has PluginFieldType 10, wanted a list of INT32");
    expect_refused(op.name, raw(nullptr, PluginFieldType::kINT32, 2),
                   "field reverse has no values, wanted a list of INT32");
    expect_refused(op.name, raw(flags, PluginFieldType::kINT32, -1),
                   "field reverse has no values, wanted a list of INT32");
  }
  const char* scan = kBidirectionalScanName;
  const float scales[] = {0.5f, 0.5f};
  const auto reverse = [] { return Fields().ints("reverse", {0, 1}); };
  expect_refused(scan, reverse(), "field scale is missing, wanted one FLOAT32");
  expect_refused(scan, reverse().ints("scale", {1}), "field scale has PluginFieldType 5, wanted one FLOAT32");
  expect_refused(scan, reverse().raw({"scale", scales, PluginFieldType::kFLOAT32, 2}),
                 "field scale has 2 values, wanted one FLOAT32");
  expect_refused(scan, reverse().raw({"scale", scales, PluginFieldType::kFLOAT32, 0}),
                 "field scale has 0 values, wanted one FLOAT32");
  for (auto [op, flag] : {std::pair{kCausalConv1dName, "silu"},
                          {kSelectiveScanName, "delta_softplus"},
                          {kLowRankScanName, "delta_softplus"}}) {
    const std::string field = std::string("field ") + flag, attribute = std::string("attribute ") + flag;
    expect_refused(op, reverse(), field + " is missing, wanted one INT32");
    expect_refused(op, reverse().number(flag, 1.0f), field + " has PluginFieldType 1, wanted one INT32");
    expect_refused(op, reverse().ints(flag, {1, 1}), field + " has 2 values, wanted one INT32");
    expect_refused(op, reverse().ints(flag, {}), field + " has 0 values, wanted one INT32");
    expect_refused(op, reverse().ints(flag, {2}), attribute + " is 2, wanted 0 or 1");
  }
}

TEST(Creator, RefusesNoFieldsAtAll) {
  for (const Operator& op : kOperators) {
    auto& creator = creator_of(op.name);
    EXPECT_NE(
        stderr_of([&] { EXPECT_EQ(creator.createPlugin("x", nullptr, nvinfer1::TensorRTPhase::kBUILD), nullptr); }),
        "");
  }
}

TEST(Creator, MakesFromAnEngineWhatWasPutThere) {
  for (const Operator& op : kOperators) {
    const PluginPointer made = make(op.name, op.fields());
    const auto* kept = runtime(*made).getFieldsToSerialize();
    ASSERT_NE(kept, nullptr);
    const PluginPointer again(creator_of(op.name).createPlugin("x", kept, nvinfer1::TensorRTPhase::kRUNTIME));
    ASSERT_NE(again, nullptr);
    EXPECT_STREQ(build(*again).getTimingCacheID(), build(*made).getTimingCacheID());
    const auto* kept_again = runtime(*again).getFieldsToSerialize();
    ASSERT_EQ(kept_again->nbFields, kept->nbFields);
    for (int32_t i = 0; i < kept->nbFields; ++i) {
      const PluginField &first = kept->fields[i], &second = kept_again->fields[i];
      EXPECT_STREQ(first.name, second.name);
      EXPECT_EQ(first.type, second.type);
      ASSERT_EQ(first.length, second.length);
      const size_t size = first.type == PluginFieldType::kUNKNOWN ? 1 : 4;
      EXPECT_EQ(std::memcmp(first.data, second.data, size * static_cast<size_t>(first.length)), 0);
    }
  }
}

TEST(Creator, RefusesAnEngineOfAnotherVersion) {
  for (const Operator& op : kOperators) {
    const auto refused = [&](const Fields& fields) {
      return stderr_of([&] { EXPECT_EQ(make(op.name, fields, nvinfer1::TensorRTPhase::kRUNTIME), nullptr); });
    };
    EXPECT_NE(refused(op.fields())
                  .find("field device is missing, wanted the bytes that this version of the library "
                        "wrote: build the engine again"),
              std::string::npos);
    EXPECT_NE(refused(op.fields().raw({"device", "12345", PluginFieldType::kUNKNOWN, 5})).find("has 5 bytes"),
              std::string::npos);
  }
}

TEST(Library, SaysWhatItIsAndForWhichGpus) {
  const std::string json = entry_point<const char*()>("VimdeployLibraryInfo")();
  const std::string headers = std::to_string(NV_TENSORRT_MAJOR) + "." + std::to_string(NV_TENSORRT_MINOR) + ".";
  for (const std::string& part : {std::string("\"operators_version\": 1"), "\"tensorrt_headers\": \"" + headers,
                                  std::string("\"cuda_architectures\": [\"")}) {
    EXPECT_NE(json.find(part), std::string::npos) << part << " is not in " << json;
  }
}

}  // namespace
}  // namespace vimdeploy::testing
