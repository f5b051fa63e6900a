// The types that T can be, and their scalar conversion from and to float32. Rounding is to nearest, ties to even; NaN
// stays NaN, and what is too large becomes infinity.

#pragma once

#include <cstdint>
#include <cstring>

#include "scan/host_device.h"

namespace vimdeploy {

enum class ElementType { float32, float16, bfloat16 };

inline constexpr ElementType kElementTypes[] = {ElementType::float32, ElementType::float16, ElementType::bfloat16};

// float16: sign, 5 bits of exponent, 10 of fraction.
struct Float16 {
  uint16_t bits;
};

// bfloat16: the upper half of a float32.
struct BFloat16 {
  uint16_t bits;
};

constexpr const char* name_of(ElementType type) {
  return type == ElementType::float32 ? "float32" : type == ElementType::float16 ? "float16" : "bfloat16";
}

constexpr int64_t bytes_of(ElementType type) { return type == ElementType::float32 ? 4 : 2; }

// Calls body(T()) with the C++ type of an element.
template <typename Body>
void with_element_type(ElementType type, Body&& body) {
  switch (type) {
    case ElementType::float32:
      return body(float());
    case ElementType::float16:
      return body(Float16());
    case ElementType::bfloat16:
      return body(BFloat16());
  }
}

VIMDEPLOY_HD uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

VIMDEPLOY_HD float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

VIMDEPLOY_HD float to_float(float value) { return value; }

VIMDEPLOY_HD float to_float(BFloat16 value) { return float_of(uint32_t{value.bits} << 16); }

VIMDEPLOY_HD float to_float(Float16 value) {
#ifdef __CUDA_ARCH__
  float converted;
  asm("cvt.f32.f16 %0, %1;" : "=f"(converted) : "h"(value.bits));
  return converted;
#else
  const uint32_t sign = (value.bits & 0x8000u) << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return float_of(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x0400u) return float_of(sign | ((magnitude << 13) + ((127u - 15u) << 23)));
  return float_of(sign | bits_of(static_cast<float>(magnitude) * 0x1p-24f));  // a denormal counts in units of 2^-24
#endif
}

template <typename T>
VIMDEPLOY_HD T from_float(float value);

template <>
VIMDEPLOY_HD float from_float<float>(float value) {
  return value;
}

template <>
VIMDEPLOY_HD BFloat16 from_float<BFloat16>(float value) {
  const uint32_t bits = bits_of(value);
  constexpr uint32_t kQuiet = 0x0040u;
  if (value != value) return {static_cast<uint16_t>(bits >> 16 | kQuiet)};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

template <>
VIMDEPLOY_HD Float16 from_float<Float16>(float value) {
#ifdef __CUDA_ARCH__
  Float16 converted;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(converted.bits) : "f"(value));
  return converted;
#else
  const uint32_t bits = bits_of(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  constexpr uint32_t kInfinity = 0x7c00u, kQuiet = 0x0200u;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | kInfinity | kQuiet | (magnitude >> 13 & 0x3ffu))};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | kInfinity)};  // from 65520 on
  if (magnitude < 0x38800000u) {
    // Below the smallest normal number: adding 0.5 leaves the value in units of 2^-24 in the low bits, rounded.
    return {static_cast<uint16_t>(sign | (bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f)))};
  }
  const uint32_t rounded = magnitude - ((127u - 15u) << 23) + 0xfffu + (magnitude >> 13 & 1u);
  return {static_cast<uint16_t>(sign | rounded >> 13)};
#endif
}

// Two numbers of 16 bits in a word, `low` in its lower half.
template <typename T>
VIMDEPLOY_HD uint32_t pair_of(float low, float high) {
  return from_float<T>(low).bits | uint32_t{from_float<T>(high).bits} << 16;
}

}  // namespace vimdeploy
