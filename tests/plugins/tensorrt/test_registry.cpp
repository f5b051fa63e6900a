// The library in the registry of a real TensorRT, whose library VIMDEPLOY_TENSORRT_RUNTIME names: libnvinfer, or
// libnvinfer_lean, which needs no device for this. test_registry.py sets it.

#include <cstdlib>

#include "tensorrt/plugin_host.h"

namespace vimdeploy::testing {
namespace {

class Registry : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* path = std::getenv("VIMDEPLOY_TENSORRT_RUNTIME");
    if (path == nullptr) GTEST_SKIP() << "VIMDEPLOY_TENSORRT_RUNTIME does not name TensorRT's library";
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << dlerror();
    const auto major = reinterpret_cast<int32_t (*)()>(dlsym(library, "getInferLibMajorVersion"));
    if (major() != NV_TENSORRT_MAJOR) GTEST_SKIP() << "built with headers of another major version than " << major();
    registry_ = reinterpret_cast<nvinfer1::IPluginRegistry* (*)()>(dlsym(library, "getPluginRegistry"))();
    handle_ = registry_->loadLibrary(VIMDEPLOY_TENSORRT_LIBRARY);
    ASSERT_NE(handle_, nullptr);
  }

  void TearDown() override {
    if (handle_ != nullptr) registry_->deregisterLibrary(handle_);
  }

  nvinfer1::IPluginCreatorV3One* creator(const char* name) {
    return static_cast<nvinfer1::IPluginCreatorV3One*>(registry_->getCreator(name, "1", "vimdeploy"));
  }

  nvinfer1::IPluginRegistry* registry_ = nullptr;
  nvinfer1::IPluginRegistry::PluginLibraryHandle handle_ = nullptr;
};

TEST_F(Registry, FindsBothCreatorsUnderTheirVersionAndNamespaceOnly) {
  for (const Operator& op : kOperators) {
    ASSERT_NE(creator(op.name), nullptr);
    EXPECT_STREQ(creator(op.name)->getPluginName(), op.name);
    EXPECT_EQ(registry_->getCreator(op.name, "2", "vimdeploy"), nullptr);
    EXPECT_EQ(registry_->getCreator(op.name, "1", ""), nullptr);
  }
}

TEST_F(Registry, MakesPluginsThatWorkAndRefusesWrongFields) {
  for (const Operator& op : kOperators) {
    const auto right = op.fields(), wrong = Fields().ints("reverse", {3});
    const auto fields = right.collection(), wrong_fields = wrong.collection();
    const PluginPointer plugin(creator(op.name)->createPlugin("x", &fields, nvinfer1::TensorRTPhase::kBUILD));
    ASSERT_NE(plugin, nullptr);
    EXPECT_EQ(creator(op.name)->createPlugin("x", &wrong_fields, nvinfer1::TensorRTPhase::kBUILD), nullptr);

    const Call least = op.call(DataType::kHALF, 1, 5), most = op.call(DataType::kHALF, 8, 5);
    const auto tensors = dynamic(least, least, most);
    EXPECT_EQ(build(*plugin).configurePlugin(tensors.data(), least.inputs(), &tensors.back(), 1), 0);
    const PluginPointer again(creator(op.name)->createPlugin("x", runtime(*plugin).getFieldsToSerialize(),
                                                             nvinfer1::TensorRTPhase::kRUNTIME));
    ASSERT_NE(again, nullptr);
    const auto call = least.tensors();
    EXPECT_EQ(runtime(*again).onShapeChange(call.data(), least.inputs(), &call.back(), 1), 0);
  }
}

}  // namespace
}  // namespace vimdeploy::testing
