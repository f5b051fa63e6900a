// Scalar functions of the CUDA kernels: the device's instructions, and their equivalent on a host.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "scan/coefficients.h"
#include "scan/element.h"
#include "scan/host_device.h"

namespace vimdeploy::cuda {

using vimdeploy::to_float;

// On a host: ends the test in which a vector is accessed at an address that a device refuses.
template <typename Vector>
void check_alignment(const void* address) {
  if (reinterpret_cast<uintptr_t>(address) % sizeof(std::remove_reference_t<Vector>) != 0) std::abort();
}

VIMDEPLOY_HD float smaller(float a, float b) { return fminf(a, b); }  // a number beside NaN: the number
VIMDEPLOY_HD float larger(float a, float b) { return fmaxf(a, b); }

// 2^x within 2e-7 in one instruction of the special function unit; below 2^-126 it gives 0.
VIMDEPLOY_HD float exp2_special(float x) {
#ifdef __CUDA_ARCH__
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
#else
  const float power = std::exp2(x);
  return power < 0x1p-126f ? 0.0f : power;
#endif
}

// 1 / x for x from 1 on, within 1e-7; above 2^126 it gives 0.
VIMDEPLOY_HD float reciprocal(float x) {
#ifdef __CUDA_ARCH__
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
  return inverse;
#else
  return x > 0x1p126f ? 0.0f : 1.0f / x;
#endif
}

// log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)); from 17 on the second term is below half a unit in the last place, so
// the contract's threshold of 20 needs no branch. NaN passes through e.
VIMDEPLOY_HD float softplus(float x) {
  const float e = exp2_special(fabsf(x) * -kLog2E);
  float p = kLog1p9;
  p = p * e + kLog1p8;
  p = p * e + kLog1p7;
  p = p * e + kLog1p6;
  p = p * e + kLog1p5;
  p = p * e + kLog1p4;
  p = p * e + kLog1p3;
  p = p * e + kLog1p2;
  p = p * e + kLog1p1;
  return p * e + larger(x, 0.0f);
}

// x / (1 + exp(-x)). If exp(-x) is infinite its reciprocal is 0.
VIMDEPLOY_HD float silu(float x) { return x * reciprocal(1.0f + exp2_special(x * -kLog2E)); }

VIMDEPLOY_HD void load(const float* from, float (&to)[1]) { to[0] = *from; }

// `from` is a multiple of 8 bytes.
VIMDEPLOY_HD void load(const float* from, float (&to)[2]) {
#ifdef __CUDA_ARCH__
  const float2 all = *reinterpret_cast<const float2*>(from);
  to[0] = all.x, to[1] = all.y;
#else
  check_alignment<decltype(to)>(from);
  std::memcpy(to, from, sizeof to);
#endif
}

// `from` is a multiple of 16 bytes.
VIMDEPLOY_HD void load(const float* from, float (&to)[4]) {
#ifdef __CUDA_ARCH__
  const float4 all = *reinterpret_cast<const float4*>(from);
  to[0] = all.x, to[1] = all.y, to[2] = all.z, to[3] = all.w;
#else
  check_alignment<decltype(to)>(from);
  std::memcpy(to, from, sizeof to);
#endif
}

VIMDEPLOY_HD void store(const float (&from)[1], float* to) { *to = from[0]; }

VIMDEPLOY_HD void store(const float (&from)[2], float* to) {
#ifdef __CUDA_ARCH__
  *reinterpret_cast<float2*>(to) = make_float2(from[0], from[1]);
#else
  check_alignment<decltype(from)>(to);
  std::memcpy(to, from, sizeof from);
#endif
}

VIMDEPLOY_HD void store(const float (&from)[4], float* to) {
#ifdef __CUDA_ARCH__
  *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
#else
  check_alignment<decltype(from)>(to);
  std::memcpy(to, from, sizeof from);
#endif
}

// Two numbers of 16 bits at once: the address is a multiple of 4 bytes.
VIMDEPLOY_HD uint32_t load_word(const void* from) {
#ifdef __CUDA_ARCH__
  return *static_cast<const uint32_t*>(from);
#else
  uint32_t word;
  check_alignment<decltype(word)>(from);
  std::memcpy(&word, from, sizeof word);
  return word;
#endif
}

VIMDEPLOY_HD void store_word(uint32_t word, void* to) {
#ifdef __CUDA_ARCH__
  *static_cast<uint32_t*>(to) = word;
#else
  check_alignment<decltype(word)>(to);
  std::memcpy(to, &word, sizeof word);
#endif
}

// Four numbers of 16 bits: the address is a multiple of 8 bytes.
VIMDEPLOY_HD void load_words(const void* from, uint32_t (&to)[2]) {
#ifdef __CUDA_ARCH__
  const uint2 both = *static_cast<const uint2*>(from);
  to[0] = both.x, to[1] = both.y;
#else
  check_alignment<decltype(to)>(from);
  std::memcpy(to, from, sizeof to);
#endif
}

// Eight numbers of 16 bits: the address is a multiple of 16 bytes.
VIMDEPLOY_HD void load_words(const void* from, uint32_t (&to)[4]) {
#ifdef __CUDA_ARCH__
  const uint4 all = *static_cast<const uint4*>(from);
  to[0] = all.x, to[1] = all.y, to[2] = all.z, to[3] = all.w;
#else
  check_alignment<decltype(to)>(from);
  std::memcpy(to, from, sizeof to);
#endif
}

VIMDEPLOY_HD void store_words(const uint32_t (&from)[4], void* to) {
#ifdef __CUDA_ARCH__
  *static_cast<uint4*>(to) = make_uint4(from[0], from[1], from[2], from[3]);
#else
  check_alignment<decltype(from)>(to);
  std::memcpy(to, from, sizeof from);
#endif
}

// Numbers of adjacent channels, as they are loaded and stored at once: two of 16 bits share a register.
template <typename T, int channels>
struct Packed {
  uint32_t bits[(channels * sizeof(T) + 3) / 4];
};

// Loads channels * sizeof(T) bytes at once: `from` is a multiple of that.
template <int channels, typename T>
VIMDEPLOY_HD Packed<T, channels> load_packed(const T* from) {
  Packed<T, channels> packed;
  if constexpr (sizeof(T) == sizeof(float)) {
    float values[channels];
    load(from, values);
    VIMDEPLOY_UNROLL
    for (int i = 0; i < channels; ++i) packed.bits[i] = bits_of(values[i]);
  } else if constexpr (channels == 1) {
    packed.bits[0] = from->bits;
  } else {
    packed.bits[0] = load_word(from);
  }
  return packed;
}

template <typename T, int channels>
VIMDEPLOY_HD float to_float(const Packed<T, channels>& packed, int channel) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return float_of(packed.bits[channel]);
  } else {
    return to_float(T{static_cast<uint16_t>(packed.bits[0] >> 16 * channel)});
  }
}

// Stores what load_packed() loads.
template <typename T, int channels>
VIMDEPLOY_HD void store_packed(const float (&values)[channels], T* to) {
  if constexpr (channels == 1) {
    *to = from_float<T>(values[0]);
  } else if constexpr (sizeof(T) == sizeof(float)) {
    store(values, to);
  } else {
    store_word(pair_of<T>(values[0], values[1]), to);
  }
}

}  // namespace vimdeploy::cuda
