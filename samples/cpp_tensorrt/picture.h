// A picture as the model takes it: by the recipe of vimdeploy/preprocess.py, which the weights were evaluated with.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {
  int width = 0, height = 0;
  std::vector<uint8_t> rgb;  // (height, width, 3)
};

// Reads a binary PPM (P6) of 8 bits; `convert cat.jpg cat.ppm` makes one.
inline Picture read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be opened");
  const auto word = [&] {
    std::string text;
    while (file >> text && text[0] == '#') file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    return text;
  };
  const auto number = [&] {
    const std::string text = word();
    const bool is_number = text.find_first_not_of("0123456789") == std::string::npos && text.size() <= 5;
    return is_number && !text.empty() ? std::stoi(text) : 0;
  };
  const bool is_ppm = word() == "P6";
  Picture picture;
  picture.width = number();
  picture.height = number();
  if (!is_ppm || picture.width == 0 || picture.height == 0 || number() != 255) {
    throw std::runtime_error(path + " is no binary PPM (P6) of 8 bits");
  }
  picture.rgb.resize(size_t{3} * static_cast<size_t>(picture.width) * static_cast<size_t>(picture.height));
  file.ignore(1);  // the one blank before the pixels
  file.read(reinterpret_cast<char*>(picture.rgb.data()), static_cast<std::streamsize>(picture.rgb.size()));
  if (!file) throw std::runtime_error(path + " ends before its last pixel");
  return picture;
}

// What one pixel of a resized line is made of: `weights` of the pixels from `first` on.
struct Taps {
  int first;
  std::vector<float> weights;
};

// Bicubic, as Pillow resizes: the kernel (a = -0.5) is widened where a line shrinks, so that no pixel is passed over.
inline std::vector<Taps> bicubic_taps(int from, int to) {
  const auto cubic = [](double x) {
    x = std::fabs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0.0;
  };
  const double step = static_cast<double>(from) / to, stretch = std::max(step, 1.0);
  std::vector<Taps> line;
  for (int i = 0; i < to; ++i) {
    const double middle = (i + 0.5) * step;
    const int first = std::max(0, static_cast<int>(middle - 2 * stretch + 0.5));
    const int last = std::min(from, static_cast<int>(middle + 2 * stretch + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (int pixel = first; pixel < last; ++pixel) {
      weights.push_back(cubic((pixel + 0.5 - middle) / stretch));
      sum += weights.back();
    }
    Taps& taps = line.emplace_back(Taps{first, {}});
    for (double weight : weights) taps.weights.push_back(static_cast<float>(weight / sum));
  }
  return line;
}

// Resizes the rows' pixels; the result is turned by 90 degrees, so that a second call resizes the columns and turns
// back.
inline Picture resized_and_turned(const Picture& from, int width) {
  Picture to{from.height, width, std::vector<uint8_t>(size_t{3} * static_cast<size_t>(from.height * width))};
  const std::vector<Taps> line = bicubic_taps(from.width, width);
  for (int y = 0; y < from.height; ++y) {
    for (int x = 0; x < width; ++x) {
      const Taps& taps = line[static_cast<size_t>(x)];
      for (int c = 0; c < 3; ++c) {
        float sum = 0;
        for (size_t i = 0; i < taps.weights.size(); ++i) {
          const auto pixel = static_cast<size_t>(y * from.width + taps.first) + i;
          sum += taps.weights[i] * from.rgb[pixel * 3 + static_cast<size_t>(c)];
        }
        const auto value = static_cast<uint8_t>(std::lround(std::clamp(sum, 0.0f, 255.0f)));
        to.rgb[static_cast<size_t>((x * from.height + y) * 3 + c)] = value;
      }
    }
  }
  return to;
}

// (3, height, width): the short side resized to size / 0.875, the middle cut out, minus mean, over std (ImageNet's).
inline std::vector<float> tensor_from(const Picture& picture, int width, int height) {
  constexpr float kMean[] = {0.485f, 0.456f, 0.406f}, kStd[] = {0.229f, 0.224f, 0.225f};
  const auto least_width = static_cast<int64_t>(width / 0.875), least_height = static_cast<int64_t>(height / 0.875);
  int64_t new_width = least_width, new_height = picture.height * least_width / picture.width;
  if (picture.width * least_height > picture.height * least_width) {
    new_width = picture.width * least_height / picture.height;
    new_height = least_height;
  }
  const Picture turned = resized_and_turned(picture, static_cast<int>(new_width));
  const Picture resized = resized_and_turned(turned, static_cast<int>(new_height));
  const auto left = std::lrint(static_cast<double>(new_width - width) / 2);
  const auto top = std::lrint(static_cast<double>(new_height - height) / 2);
  std::vector<float> tensor;
  for (size_t c = 0; c < 3; ++c) {
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        const auto pixel = static_cast<size_t>((top + y) * new_width + left + x);
        tensor.push_back((static_cast<float>(resized.rgb[pixel * 3 + c]) / 255.0f - kMean[c]) / kStd[c]);
      }
    }
  }
  return tensor;
}
