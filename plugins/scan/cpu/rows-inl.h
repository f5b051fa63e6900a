// Conversion of elements of T in tensors to vectors of float32 and back, for every instruction set (included once for
// each). Only these functions handle the type of a tensor, and a number of channels that does not fill its last vector:
// scratch holds whole vectors, padded with zeros.

#if defined(VIMDEPLOY_SCAN_CPU_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef VIMDEPLOY_SCAN_CPU_ROWS_INL_H_
#undef VIMDEPLOY_SCAN_CPU_ROWS_INL_H_
#else
#define VIMDEPLOY_SCAN_CPU_ROWS_INL_H_
#endif

#include <cstdint>
#include <type_traits>

#include <hwy/highway.h>

#include "scan/element.h"
#include "scan/cpu/plan.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::ScalableTag<float>;
using V = hn::VFromD<Tag>;
constexpr int64_t kLanes =
    static_cast<int64_t>(hn::MaxLanes(Tag()));  // exact: vectors have one size, see instruction_sets.h

// Reads `count` elements, at most a vector; the other lanes are zero.
template <class D>
HWY_INLINE hn::VFromD<D> load_as_float(D d, const float* from, size_t count) {
  return count == hn::Lanes(d) ? hn::LoadU(d, from) : hn::LoadN(d, from, count);
}

template <class D, class D16 = hn::Rebind<uint16_t, D>>
HWY_INLINE hn::VFromD<D16> load_bits(D d, const uint16_t* from, size_t count) {
  return count == hn::Lanes(d) ? hn::LoadU(D16(), from) : hn::LoadN(D16(), from, count);
}

template <class D>
HWY_INLINE hn::VFromD<D> load_as_float(D d, const Float16* from, size_t count) {
  const auto bits16 = load_bits(d, &from->bits, count);
#if (HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2) || HWY_ARCH_ARM_A64
  const hn::Rebind<hwy::float16_t, D> d_half;
  return hn::PromoteTo(d, hn::BitCast(d_half, bits16));
#else
  // Without such an instruction, Highway's own conversion reads infinity and NaN as finite numbers.
  const hn::RebindToUnsigned<D> d_bits;
  const auto bits = hn::PromoteTo(d_bits, bits16);
  const auto magnitude = hn::And(bits, hn::Set(d_bits, 0x7fffu));
  const auto finite = hn::Mul(hn::BitCast(d, hn::ShiftLeft<13>(magnitude)), hn::Set(d, 0x1p112f));
  const auto is_finite = hn::Lt(magnitude, hn::Set(d_bits, 0x7c00u));
  const auto exponent = hn::IfThenZeroElse(is_finite, hn::Set(d_bits, 0x7f800000u));
  const auto sign = hn::ShiftLeft<16>(hn::Sub(bits, magnitude));
  return hn::Or(finite, hn::BitCast(d, hn::Or(sign, exponent)));
#endif
}

template <class D>
HWY_INLINE hn::VFromD<D> load_as_float(D d, const BFloat16* from, size_t count) {
  const hn::RebindToUnsigned<D> d_bits;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d_bits, load_bits(d, &from->bits, count))));
}

template <class D, class V = hn::VFromD<D>>
HWY_INLINE void store_float(D d, V value, size_t count, float* to) {
  count == hn::Lanes(d) ? hn::StoreU(value, d, to) : hn::StoreN(value, d, to, count);
}

template <class D, class D16 = hn::Rebind<uint16_t, D>>
HWY_INLINE void store_bits(D d, hn::VFromD<D16> bits, size_t count, uint16_t* to) {
  count == hn::Lanes(d) ? hn::StoreU(bits, D16(), to) : hn::StoreN(bits, D16(), to, count);
}

template <class D, class V = hn::VFromD<D>>
HWY_INLINE void store_float(D d, V value, size_t count, Float16* to) {
  const hn::Rebind<hwy::float16_t, D> d_half;
  const hn::Rebind<uint16_t, D> d_bits16;
  store_bits(d, hn::BitCast(d_bits16, hn::DemoteTo(d_half, value)), count, &to->bits);
}

template <class D, class V = hn::VFromD<D>>
HWY_INLINE void store_float(D d, V value, size_t count, BFloat16* to) {
  const hn::RebindToUnsigned<D> d_bits;
  const hn::Rebind<uint16_t, D> d_bits16;
  const auto bits = hn::BitCast(d_bits, value);
  const auto is_odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d_bits, 1u));
  const auto rounded = hn::Add(bits, hn::Add(is_odd, hn::Set(d_bits, 0x7fffu)));
  const auto quiet = hn::Or(bits, hn::Set(d_bits, 0x00400000u));
  const auto is_nan = hn::RebindMask(d_bits, hn::IsNaN(value));
  store_bits(d, hn::TruncateTo(d_bits16, hn::ShiftRight<16>(hn::IfThenElse(is_nan, quiet, rounded))), count, &to->bits);
}

// Whether a vector of T is a full cache line, which non-temporal stores need to be fast: part of a line would be read
// first.
template <typename T>
constexpr bool kIsLine = std::is_same_v<T, float> && kLanes * sizeof(float) == kCacheLine;

HWY_INLINE bool is_line_aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % kCacheLine == 0; }

// Stores whole vectors.
template <typename T>
HWY_INLINE void load_row(const T* from, int64_t count, float* to) {
  const Tag d;
  for (int64_t i = 0; i < count; i += kLanes) {
    hn::Store(load_as_float(d, from + i, static_cast<size_t>(HWY_MIN(kLanes, count - i))), d, to + i);
  }
}

// Packs weights (channels, count), of at most a vector of channels, as (count, one vector), padded with zeros.
template <typename T>
HWY_INLINE void pack_vector(const T* from, int64_t channels, int64_t count, float factor, float* to) {
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t c = 0; c < kLanes; ++c) {
      to[i * kLanes + c] = c < channels ? to_float(from[c * count + i]) * factor : 0.0f;
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace vimdeploy
HWY_AFTER_NAMESPACE();

#endif  // VIMDEPLOY_SCAN_CPU_ROWS_INL_H_
