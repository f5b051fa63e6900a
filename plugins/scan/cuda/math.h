// Scalar functions of the CUDA kernels: the device's instructions, and their equivalent on a host.

#pragma once

#include <cmath>
#include <cstring>

#include "scan/coefficients.h"
#include "scan/element.h"
#include "scan/host_device.h"

namespace vimdeploy::cuda {

using vimdeploy::to_float;

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

// Loads float4: `from` is a multiple of 16 bytes.
VIMDEPLOY_HD void load(const float* from, float (&to)[4]) {
#ifdef __CUDA_ARCH__
  const float4 all = *reinterpret_cast<const float4*>(from);
  to[0] = all.x, to[1] = all.y, to[2] = all.z, to[3] = all.w;
#else
  std::memcpy(to, from, sizeof to);
#endif
}

VIMDEPLOY_HD void store(const float (&from)[4], float* to) {
#ifdef __CUDA_ARCH__
  *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
#else
  std::memcpy(to, from, sizeof from);
#endif
}

// A value of T that is loaded ahead of its use, kept in a 32-bit register of its own: compilers would pack two 16-bit
// values into one register, and unpacking costs more than the register.
template <typename T>
struct Prefetched {
  uint32_t bits;
};

template <typename T>
VIMDEPLOY_HD Prefetched<T> prefetched(T value) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return {bits_of(value)};
  } else {
    return {value.bits};
  }
}

template <typename T>
VIMDEPLOY_HD float to_float(Prefetched<T> value) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return float_of(value.bits);
  } else {
    return to_float(T{static_cast<uint16_t>(value.bits)});
  }
}

}  // namespace vimdeploy::cuda
