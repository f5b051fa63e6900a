// Picture files.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace classify {

struct Picture {
  int width = 0, height = 0, channels = 0;
  std::vector<uint8_t> pixels;  // (height, width, channels)
};

// Reads a PNG or a JPEG as RGB: the pixels that Pillow reads. Transparency is dropped, an EXIF orientation is not
// applied.
Picture read_picture(const std::string& path);

// In one channel, as Pillow has it.
Picture grey(const Picture& rgb);

}  // namespace classify
