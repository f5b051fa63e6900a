#include "common/picture.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>

#include "common/check.h"

#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>

#ifdef WITH_JPEG
#include <turbojpeg.h>
#endif

namespace classify {
namespace {

constexpr int64_t kLongest = 1'000'000, kMostPixels = int64_t{1} << 28;

void check_size(int64_t width, int64_t height) {
  check(width > 0 && height > 0 && std::max(width, height) <= kLongest && width * height <= kMostPixels,
        "it has no pixels, or absurdly many");
}

Picture empty_picture(int width, int height, int channels) {
  const auto count = static_cast<size_t>(width) * static_cast<size_t>(height) * static_cast<size_t>(channels);
  return {width, height, channels, std::vector<uint8_t>(count)};
}

Picture picture_from_png(const std::vector<uint8_t>& file) {
  const auto bytes = static_cast<int>(file.size());
  int width = 0, height = 0, channels = 0;
  if (stbi_info_from_memory(file.data(), bytes, &width, &height, &channels) == 0) {
    throw std::runtime_error(std::string("it is no PNG or JPEG (") + stbi_failure_reason() + ")");
  }
  check_size(width, height);
  const std::unique_ptr<stbi_uc, decltype(&stbi_image_free)> pixels(
      stbi_load_from_memory(file.data(), bytes, &width, &height, &channels, 3), stbi_image_free);
  if (pixels == nullptr) throw std::runtime_error(std::string("it is damaged (") + stbi_failure_reason() + ")");
  Picture picture = empty_picture(width, height, 3);
  std::copy_n(pixels.get(), picture.pixels.size(), picture.pixels.begin());
  return picture;
}

Picture picture_from_jpeg([[maybe_unused]] const std::vector<uint8_t>& file) {
#ifdef WITH_JPEG
  const std::unique_ptr<void, decltype(&tjDestroy)> jpeg(tjInitDecompress(), tjDestroy);
  const auto check_jpeg = [&](int code) {
    check(code == 0, std::string("it is damaged (") + tjGetErrorStr2(jpeg.get()) + ")");
  };
  const auto bytes = static_cast<unsigned long>(file.size());
  int width = 0, height = 0, subsampling = 0, colors = 0;
  check_jpeg(tjDecompressHeader3(jpeg.get(), file.data(), bytes, &width, &height, &subsampling, &colors));
  check_size(width, height);
  Picture picture = empty_picture(width, height, 3);
  check_jpeg(tjDecompress2(jpeg.get(), file.data(), bytes, picture.pixels.data(), width, 0, height, TJPF_RGB,
                           TJFLAG_ACCURATEDCT));
  return picture;
#else
  throw std::runtime_error("this program was built without TurboJPEG, which reads JPEG files");
#endif
}

}  // namespace

Picture read_picture(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  check(stream.good(), "it cannot be opened");
  const std::vector<uint8_t> file(std::istreambuf_iterator<char>(stream), {});
  check(file.size() < kMostPixels, "it is larger than any picture");
  const bool is_jpeg = file.size() > 2 && file[0] == 0xff && file[1] == 0xd8;
  return is_jpeg ? picture_from_jpeg(file) : picture_from_png(file);
}

Picture grey(const Picture& rgb) {
  Picture made = empty_picture(rgb.width, rgb.height, 1);
  for (size_t i = 0; i < made.pixels.size(); ++i) {
    const uint8_t* pixel = &rgb.pixels[3 * i];
    made.pixels[i] = static_cast<uint8_t>((pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16);
  }
  return made;
}

}  // namespace classify
