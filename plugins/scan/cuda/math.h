// The functions of the CUDA kernels, one number at a time: the device's instructions, and the same on a host.

#pragma once

#include <cmath>
#include <cstring>

#include "scan/element.h"
#include "scan/host_device.h"

namespace vimdeploy::cuda {

using vimdeploy::to_float;

inline constexpr float kLog2E = 1.44269504088896f;

VIMDEPLOY_HD float smaller(float a, float b) { return fminf(a, b); }  // of a number and NaN: the number
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

// 1 / x for x from 1 on, within 1e-7.
VIMDEPLOY_HD float reciprocal(float x) {
#ifdef __CUDA_ARCH__
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
  return inverse;
#else
  return 1.0f / x;
#endif
}

// log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)); from 17 on the second term is below half a unit in the last place, so
// the contract's threshold of 20 needs no branch. log1p(e) = e * polynomial, 3.1e-8 on [0, 1]. NaN passes through e.
VIMDEPLOY_HD float softplus(float x) {
  const float e = exp2_special(fabsf(x) * -kLog2E);
  float p = 5.232695490121841e-3f;
  p = p * e - 2.950524538755417e-2f;
  p = p * e + 7.822596281766891e-2f;
  p = p * e - 1.3663247227668762e-1f;
  p = p * e + 1.9106008112430573e-1f;
  p = p * e - 2.484298199415207e-1f;
  p = p * e + 3.331909775733948e-1f;
  p = p * e - 4.999949336051941e-1f;
  p = p * e + 9.999999403953552e-1f;
  return p * e + larger(x, 0.0f);
}

// x / (1 + exp(-x)), through exp(-|x|), which cannot overflow.
VIMDEPLOY_HD float silu(float x) {
  const float e = exp2_special(fabsf(x) * -kLog2E);
  return x * ((x < 0.0f ? e : 1.0f) * reciprocal(1.0f + e));
}

// Four numbers that lie at a multiple of 16 bytes.
VIMDEPLOY_HD void load4(const float* from, float (&to)[4]) {
#ifdef __CUDA_ARCH__
  const float4 all = *reinterpret_cast<const float4*>(from);
  to[0] = all.x, to[1] = all.y, to[2] = all.z, to[3] = all.w;
#else
  std::memcpy(to, from, sizeof to);
#endif
}

// A number of T between its load and its use, in a register of its own: compilers pack two of 16 bits into one, and
// unpacking costs more than the register.
template <typename T>
struct Held {
  uint32_t bits;
};

template <typename T>
VIMDEPLOY_HD Held<T> held(T value) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return {bits_of(value)};
  } else {
    return {value.bits};
  }
}

template <typename T>
VIMDEPLOY_HD float to_float(Held<T> value) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return float_of(value.bits);
  } else {
    return to_float(T{static_cast<uint16_t>(value.bits)});
  }
}

}  // namespace vimdeploy::cuda
