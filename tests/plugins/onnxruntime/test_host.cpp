// Memory of kernels, from an allocator that records its calls and has a limit.

#include "onnxruntime/host.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

namespace vimdeploy::onnxruntime {
namespace {

constexpr size_t kCapacity = 1000;
constexpr int kDevice = 3;

// The allocator's calls, in order.
std::vector<std::string> events;

// Like ONNX Runtime's arena: throws if memory is short, although its interface is C.
struct Arena : OrtAllocator {
  Arena() : OrtAllocator{} {
    version = ORT_API_VERSION;
    Alloc = [](OrtAllocator*, size_t bytes) -> void* {
      if (bytes > kCapacity) throw std::runtime_error("arena");
      events.push_back("alloc " + std::to_string(bytes));
      return std::malloc(bytes);
    };
    Free = [](OrtAllocator*, void* data) {
      events.emplace_back("free");
      std::free(data);
    };
    Info = [](const OrtAllocator*) -> const OrtMemoryInfo* { return nullptr; };
  }
};

OrtStatusPtr ORT_API_CALL allocator_of_node(const OrtKernelInfo*, OrtMemType, OrtAllocator** out) noexcept {
  static Arena arena;
  *out = &arena;
  return nullptr;
}

void ORT_API_CALL release_allocator(OrtAllocator*) noexcept { events.emplace_back("release"); }

OrtStatusPtr ORT_API_CALL scratch_of_stream(const OrtKernelContext*, const OrtMemoryInfo*, size_t bytes,
                                            void** out) noexcept {
  events.push_back("stream alloc " + std::to_string(bytes));
  *out = std::malloc(bytes);
  return nullptr;
}

OrtStatusPtr ORT_API_CALL device_of(const OrtMemoryInfo*, int* device) noexcept {
  *device = kDevice;
  return nullptr;
}

using Events = std::vector<std::string>;

class KernelMemory : public ::testing::Test {
 protected:
  void SetUp() override {
    static const OrtApi api = [] {
      OrtApi made{};
      made.KernelInfoGetAllocator = allocator_of_node;
      made.ReleaseAllocator = release_allocator;
      made.KernelContext_GetScratchBuffer = scratch_of_stream;
      made.MemoryInfoGetId = device_of;
      return made;
    }();
    Ort::InitApi(&api);
    events.clear();
  }
};

TEST_F(KernelMemory, IsOfTheNodesDevice) { EXPECT_EQ(KernelAllocator(nullptr).device_id(), kDevice); }

TEST_F(KernelMemory, IsGivenBackAtTheEndOfItsScope) {
  {
    const KernelAllocator allocator(nullptr);
    const Scratch scratch = allocator.scratch(10);
    EXPECT_NE(scratch, nullptr);
  }
  EXPECT_EQ(events, (Events{"alloc 10", "free", "release"}));
}

TEST_F(KernelMemory, OfAStreamIsTakenInItsOrderAfterAsking) {
  {
    const KernelAllocator allocator(nullptr);
    const Scratch scratch = allocator.stream_scratch(nullptr, 10);
    EXPECT_NE(scratch, nullptr);
  }
  EXPECT_EQ(events, (Events{"alloc 10", "free", "stream alloc 10", "free", "release"}));
}

TEST_F(KernelMemory, OfAStreamIsAskedForOnceASize) {
  const KernelAllocator allocator(nullptr);
  for (size_t bytes : {10, 10, 9, 11}) EXPECT_NE(allocator.stream_scratch(nullptr, bytes), nullptr);
  EXPECT_EQ(events, (Events{"alloc 10", "free", "stream alloc 10", "free", "stream alloc 10", "free", "stream alloc 9",
                            "free", "alloc 11", "free", "stream alloc 11", "free"}));
}

TEST_F(KernelMemory, OfNoBytesIsNull) {
  const KernelAllocator allocator(nullptr);
  EXPECT_EQ(allocator.scratch(0), nullptr);
  EXPECT_EQ(allocator.stream_scratch(nullptr, 0), nullptr);
  EXPECT_TRUE(events.empty());
}

TEST_F(KernelMemory, ThatIsShortIsASentence) {
  const KernelAllocator allocator(nullptr);
  const std::string sentence =
      "vimdeploy: wanted 1001 bytes of working memory, the device has not as much left; run smaller batches";
  for (const bool on_stream : {false, true}) {
    try {
      const Scratch scratch = on_stream ? allocator.stream_scratch(nullptr, 1001) : allocator.scratch(1001);
      ADD_FAILURE() << "no exception";
    } catch (const std::exception& error) {
      EXPECT_EQ(error.what(), sentence);
    }
  }
  EXPECT_TRUE(events.empty());  // KernelContext_GetScratchBuffer was not called: it would abort the process
}

}  // namespace
}  // namespace vimdeploy::onnxruntime
