// Messages go to TensorRT's logger only if that TensorRT is of the headers' version: fake_tensorrt.cpp is a library
// with a logger that says any version.

#include "tensorrt/plugin_host.h"

namespace vimdeploy::testing {
namespace {

void make_nothing() { EXPECT_EQ(make(kBidirectionalConv1dName, Fields()), nullptr); }

template <typename Function>
Function* of_fake_tensorrt(const char* name) {
  static void* library = dlopen(VIMDEPLOY_FAKE_TENSORRT, RTLD_NOW | RTLD_LOCAL);
  return reinterpret_cast<Function*>(dlsym(library, name));
}

class Log : public ::testing::Test {
 protected:
  void set_finder(nvinfer1::ILoggerFinder* finder) {
    entry_point<void(nvinfer1::ILoggerFinder*)>("setLoggerFinder")(finder);
  }
  void set_finder_of_version(int32_t major) {
    of_fake_tensorrt<void(int32_t)>("set_version")(major);
    set_finder(of_fake_tensorrt<nvinfer1::ILoggerFinder*()>("finder")());
  }
  std::string logged() { return of_fake_tensorrt<const char*()>("take_logged")(); }

  void TearDown() override { set_finder(nullptr); }
};

const std::string kSentence = "BidirectionalConv1d: field reverse is missing, wanted a list of INT32";

TEST_F(Log, TellsTheLoggerOfTheTensorRTThatTheHeadersAreOf) {
  set_finder_of_version(NV_TENSORRT_MAJOR);
  EXPECT_EQ(stderr_of(make_nothing), "");
  EXPECT_EQ(logged(), kSentence);
}

TEST_F(Log, TellsStandardErrorIfTensorRTIsOfAnotherVersion) {
  for (int32_t major : {1, NV_TENSORRT_MAJOR - 1, NV_TENSORRT_MAJOR + 1}) {
    set_finder_of_version(major);
    EXPECT_EQ(stderr_of(make_nothing), "[vimdeploy] " + kSentence + "\n");
    EXPECT_EQ(logged(), "");
  }
}

TEST_F(Log, TellsStandardErrorIfThereIsNoLogger) {
  set_finder_of_version(NV_TENSORRT_MAJOR);
  of_fake_tensorrt<void()>("lose_logger")();
  EXPECT_EQ(stderr_of(make_nothing), "[vimdeploy] " + kSentence + "\n");
  set_finder(nullptr);
  EXPECT_EQ(stderr_of(make_nothing), "[vimdeploy] " + kSentence + "\n");
}

// A finder of a library that does not say its version: this program.
class Finder final : public nvinfer1::ILoggerFinder {
 public:
  nvinfer1::ILogger* findLogger() override {
    ADD_FAILURE() << "called";
    return nullptr;
  }
};

TEST_F(Log, DoesNotCallAFinderOfUnknownOrigin) {
  Finder finder;
  set_finder(&finder);
  EXPECT_EQ(stderr_of(make_nothing), "[vimdeploy] " + kSentence + "\n");
}

}  // namespace
}  // namespace vimdeploy::testing
