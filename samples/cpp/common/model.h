// What a file of vimdeploy says of itself, as far as these programs need it; see docs/file-format.md.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace classify {

// Height or width of the pictures that a model takes: least, least + step, ... up to most.
struct Side {
  int64_t least = 1, step = 1;
  std::optional<int64_t> most;

  bool is_open() const { return most != least; }
  int64_t nearest(int64_t size) const;
};

// How a picture becomes an input: resized, its middle cut out, values in [0, 1] minus mean, over std.
struct Recipe {
  double crop = 1;
  std::string interpolation;     // bicubic, bilinear or lanczos
  std::vector<float> mean, std;  // a value for each channel
};

struct Model {
  std::string input, output;  // their names in the graph
  bool takes_bytes = false;  // pictures (1, H, W, C) of uint8, which it normalises itself; else (1, C, H, W) of float32
  Side height, width;
  Recipe recipe;
  std::vector<std::string> labels;  // empty if nobody named the classes
  std::string precision;

  // Throws if the entries are not there or damaged, or the file is not for classes of pictures.
  static Model from_metadata(const std::map<std::string, std::string>& entries);

  int channels() const { return static_cast<int>(recipe.mean.size()); }
};

}  // namespace classify
