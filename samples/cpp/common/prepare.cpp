#include "common/prepare.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/check.h"

namespace classify {
namespace {

// Along an axis: a line is resized from all its pixels, and `count` of the new ones from `first` on are wanted.
struct Axis {
  int64_t from, to, first, count;
};

// A kernel of Pillow's, and how far it reaches on either side.
struct Kernel {
  double (*at)(double x);
  double reach;
};

double bilinear(double x) { return std::max(1 - std::fabs(x), 0.0); }

double bicubic(double x) {
  x = std::fabs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0.0;
}

double lanczos(double x) {
  const auto sinc = [](double t) {
    t *= 3.14159265358979323846;
    return t == 0 ? 1.0 : std::sin(t) / t;
  };
  return -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0.0;
}

Kernel kernel_of(const std::string& interpolation) {
  if (interpolation == "bilinear") return {bilinear, 1};
  if (interpolation == "bicubic") return {bicubic, 2};
  return {lanczos, 3};
}

// What a new pixel is made of: `weights`, in parts of 2^22, of the pixels from `first` on.
struct Taps {
  int64_t first;
  std::vector<int32_t> weights;
};
constexpr int kBits = 22;

// Pillow's weights for `to` new pixels over [begin, end) of a line of `pixels`: the kernel is widened if the line
// shrinks, so that no pixel is passed over.
std::vector<Taps> taps_of(const Kernel& kernel, int64_t pixels, float begin, float end, int64_t to) {
  const double step = static_cast<double>(end - begin) / static_cast<double>(to), stretch = std::max(step, 1.0);
  const double reach = kernel.reach * stretch, narrow = 1 / stretch;
  std::vector<Taps> line;
  for (int64_t i = 0; i < to; ++i) {
    const double middle = begin + (static_cast<double>(i) + 0.5) * step;
    const auto first = std::max(static_cast<int64_t>(middle - reach + 0.5), int64_t{0});
    const auto last = std::min(static_cast<int64_t>(middle + reach + 0.5), pixels);
    std::vector<double> weights;
    double sum = 0;
    for (int64_t pixel = first; pixel < last; ++pixel) {
      weights.push_back(kernel.at((static_cast<double>(pixel) - middle + 0.5) * narrow));
      sum += weights.back();
    }
    Taps& taps = line.emplace_back(Taps{first, {}});
    for (double weight : weights) {
      const double part = (sum != 0 ? weight / sum : weight) * (1 << kBits);
      taps.weights.push_back(static_cast<int32_t>(part < 0 ? part - 0.5 : part + 0.5));
    }
  }
  return line;
}

// Every row made of the pixels that the taps say, and the picture turned by 90 degrees: the same again makes the
// columns, and turns back.
Picture resized_and_turned(const Picture& from, const std::vector<Taps>& line) {
  const auto channels = static_cast<size_t>(from.channels), height = static_cast<size_t>(from.height);
  Picture to{from.height, static_cast<int>(line.size()), from.channels, {}};
  to.pixels.resize(line.size() * height * channels);
  for (size_t y = 0; y < height; ++y) {
    const uint8_t* row = &from.pixels[y * static_cast<size_t>(from.width) * channels];
    for (size_t x = 0; x < line.size(); ++x) {
      for (size_t c = 0; c < channels; ++c) {
        const uint8_t* pixel = row + static_cast<size_t>(line[x].first) * channels + c;
        int32_t sum = 1 << (kBits - 1);
        for (int32_t weight : line[x].weights) {
          sum += weight * *pixel;
          pixel += channels;
        }
        to.pixels[(x * height + y) * channels + c] = static_cast<uint8_t>(std::clamp(sum >> kBits, 0, 255));
      }
    }
  }
  return to;
}

// The taps of the new pixels of an axis that are wanted.
std::vector<Taps> taps_of(const Kernel& kernel, const Axis& axis, bool is_long) {
  if (!is_long) {
    std::vector<Taps> line = taps_of(kernel, axis.from, 0, static_cast<float>(axis.from), axis.to);
    return {line.begin() + axis.first, line.begin() + axis.first + axis.count};
  }
  // If a picture is much longer, vimdeploy has Pillow resize the part alone, whose edges Pillow rounds to float32.
  const double scale = static_cast<double>(axis.from) / static_cast<double>(axis.to);
  const double first = static_cast<double>(axis.first) * scale,
               last = static_cast<double>(axis.first + axis.count) * scale;
  const double reach = 3 * std::max(scale, 1.0);
  const auto begin = std::max(static_cast<int64_t>(first - reach), int64_t{0});
  const auto end = std::min(static_cast<int64_t>(std::ceil(last + reach)), axis.from);
  std::vector<Taps> line = taps_of(kernel, end - begin, static_cast<float>(first - static_cast<double>(begin)),
                                   static_cast<float>(last - static_cast<double>(begin)), axis.count);
  for (Taps& taps : line) taps.first += begin;
  return line;
}

// How a picture lies in the input: the size that it is resized to, and what is cut out of that.
std::pair<Axis, Axis> axes_of(const Picture& picture, const Model& model) {
  const int64_t height = model.height.nearest(picture.height), width = model.width.nearest(picture.width);
  if (model.height.is_open() || model.width.is_open()) {
    return {{picture.height, height, 0, height}, {picture.width, width, 0, width}};
  }
  const auto least = [&](int64_t side) { return static_cast<int64_t>(static_cast<double>(side) / model.recipe.crop); };
  int64_t new_height = least(height), new_width = least(width);
  if (picture.height * new_width <= picture.width * new_height) {
    new_width = picture.width * new_height / picture.height;
  } else {
    new_height = picture.height * new_width / picture.width;
  }
  const auto middle = [](int64_t whole, int64_t part) {
    return std::max<int64_t>(std::llrint(static_cast<double>(whole - part) / 2), 0);
  };
  return {{picture.height, new_height, middle(new_height, height), height},
          {picture.width, new_width, middle(new_width, width), width}};
}

// The part of a picture that the model looks at, resized.
Picture window_of(const Picture& picture, const Model& model) {
  constexpr int64_t kLongest = 1'000'000, kMost = int64_t{1} << 28, kLargest = 16;
  const auto [down, across] = axes_of(picture, model);
  check(std::max(down.to, across.to) <= kLongest && down.count <= kMost / across.count,
        "it would become larger than any picture");
  const bool is_long = down.to * across.to > kLargest * down.count * across.count;
  const Kernel kernel = kernel_of(model.recipe.interpolation);
  const std::vector<Taps> rows = taps_of(kernel, across, is_long), columns = taps_of(kernel, down, is_long);
  return resized_and_turned(resized_and_turned(picture, rows), columns);
}

// (height, width, channels) of bytes as (channels, height, width), minus mean, over std.
std::vector<float> normalised(const Picture& picture, const Recipe& recipe) {
  const size_t channels = recipe.mean.size(), size = picture.pixels.size() / channels;
  std::vector<float> values;
  for (size_t c = 0; c < channels; ++c) {
    for (size_t i = 0; i < size; ++i) {
      const auto value = static_cast<float>(picture.pixels[i * channels + c]);
      values.push_back((value / 255.0f - recipe.mean[c]) / recipe.std[c]);
    }
  }
  return values;
}

}  // namespace

Tensor tensor_from(const Picture& rgb, const Model& model) {
  Picture window = window_of(model.channels() == 1 ? grey(rgb) : rgb, model);
  if (model.takes_bytes) return {{1, window.height, window.width, window.channels}, std::move(window.pixels)};
  return {{1, window.channels, window.height, window.width}, normalised(window, model.recipe)};
}

}  // namespace classify
