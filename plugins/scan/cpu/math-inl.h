// exp2, softplus and silu on vectors of float32, for every instruction set (included once for each).
//
// Softplus and silu are long chains of dependent instructions, more than a processor's scheduler holds. They take
// several vectors and compute them step by step, so that their chains stand side by side.

#if defined(VIMDEPLOY_SCAN_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef VIMDEPLOY_SCAN_CPU_MATH_INL_H_
#undef VIMDEPLOY_SCAN_CPU_MATH_INL_H_
#else
#define VIMDEPLOY_SCAN_CPU_MATH_INL_H_
#endif

#include <hwy/highway.h>

#include "scan/coefficients.h"

HWY_BEFORE_NAMESPACE();
namespace vimdeploy {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The larger and the smaller of the two, NaN if x is NaN: x86's instructions return the second operand then, Arm's may
// return the bound.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V at_least(D, V bound, V x) {
#if HWY_ARCH_X86
  return hn::Max(bound, x);
#else
  return hn::IfThenElse(hn::Lt(x, bound), bound, x);
#endif
}

template <class D, class V = hn::VFromD<D>>
HWY_INLINE V at_most(D, V bound, V x) {
#if HWY_ARCH_X86
  return hn::Min(bound, x);
#else
  return hn::IfThenElse(hn::Gt(x, bound), bound, x);
#endif
}

// 2^f for f in [-1/2, 1/2], highest degree first: relative error 9.1e-8, and exactly 1 at 0. Minimax in relative error
// (Lawson's iteration in double), then rounded to float32.
constexpr float kExp2[] = {1.326472731307149e-3f,  9.671512991189957e-3f, 5.550733581185341e-2f,
                           2.4022242426872253e-1f, 6.931470036506653e-1f, 1.0f};

// log1p(e) / e, highest degree first.
constexpr float kLog1p[] = {kLog1p9, kLog1p8, kLog1p7, kLog1p6, kLog1p5, kLog1p4, kLog1p3, kLog1p2, kLog1p1};

// Polynomials of several x.
template <int kCount, size_t kTerms, class D, class V = hn::VFromD<D>>
HWY_INLINE void polynomial(D d, const float (&terms)[kTerms], const V (&x)[kCount], V (&p)[kCount]) {
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) p[i] = hn::Set(d, terms[0]);
  HWY_UNROLL(8)
  for (size_t term = 1; term < kTerms; ++term) {
    HWY_UNROLL(8)
    for (int i = 0; i < kCount; ++i) p[i] = hn::MulAdd(p[i], x[i], hn::Set(d, terms[term]));
  }
}

// Splits x into a fraction in [-1/2, 1/2] and a whole part, which scale() takes.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE void split(D d, V x, V& fraction, V& whole) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  // One instruction splits off the integer part of x, another one scales by 2^integer: right for every x, infinite ones
  // too. Rounding down would save the subtraction, but cuts bits off a small negative x: a decay close to 1 would be
  // too small by half a unit on average, at every token.
  static_cast<void>(d);
  fraction = V{_mm512_reduce_ps(x.raw, _MM_FROUND_TO_NEAREST_INT)};
  whole = hn::Sub(x, fraction);
#else
  // Adding 1.5 * 2^23 rounds x to an integer, which is then in the low bits.
  const V shift = hn::Set(d, 0x1.8p23f);
  x = at_most(d, hn::Set(d, 128.0f), at_least(d, hn::Set(d, -127.0f), x));
  whole = hn::Add(x, shift);
  fraction = hn::Sub(x, hn::Sub(whole, shift));
#endif
}

// p * 2^whole
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V scale(D d, V p, V whole) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  static_cast<void>(d);
  return V{_mm512_scalef_ps(p.raw, whole.raw)};
#else
  const hn::RebindToSigned<D> di;
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, whole))));
#endif
}

// 2^x within 2e-7 of the value; 0 far below -126, infinity from 128 on, NaN for NaN.
template <int kCount, class D, class V = hn::VFromD<D>>
HWY_INLINE void exp2(D d, V (&x)[kCount]) {
  V fraction[kCount], whole[kCount], p[kCount];
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) split(d, x[i], fraction[i], whole[i]);
  polynomial(d, kExp2, fraction, p);
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) x[i] = scale(d, p[i], whole[i]);
}

// log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)); from 17 on the second term is below half a unit in the last place, so
// the contract's threshold of 20 needs no branch.
template <int kCount, class D, class V = hn::VFromD<D>>
HWY_INLINE void softplus(D d, V (&x)[kCount]) {
  V e[kCount], p[kCount];
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) e[i] = hn::Mul(hn::Abs(x[i]), hn::Set(d, -kLog2E));
  exp2(d, e);
  polynomial(d, kLog1p, e, p);
  HWY_UNROLL(8)
  for (int i = 0; i < kCount; ++i) x[i] = hn::MulAdd(p[i], e[i], at_least(d, hn::Zero(d), x[i]));
}

// The same for one vector.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V exp2(D d, V x) {
  V one[] = {x};
  exp2(d, one);
  return one[0];
}

// x / (1 + exp(-x)), through exp(-|x|), which cannot overflow.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V silu(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  const V e = exp2(d, hn::Mul(hn::Abs(x), hn::Set(d, -kLog2E)));
  return hn::Mul(x, hn::Div(hn::IfNegativeThenElse(x, e, one), hn::Add(one, e)));
}

}  // namespace HWY_NAMESPACE
}  // namespace vimdeploy
HWY_AFTER_NAMESPACE();

#endif  // VIMDEPLOY_SCAN_CPU_MATH_INL_H_
