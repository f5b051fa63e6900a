// exp2, softplus and silu on vectors of float32, for every instruction set (included once for each).
// Coefficients of exp2: minimax in relative error (Lawson's iteration in double), then rounded to float32.

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

// 2^f for f in [-1/2, 1/2]: relative error 9.1e-8, and exactly 1 at 0.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V exp2_of_fraction(D d, V f) {
  V p = hn::Set(d, 1.326472731307149e-3f);
  p = hn::MulAdd(p, f, hn::Set(d, 9.671512991189957e-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 5.550733581185341e-2f));
  p = hn::MulAdd(p, f, hn::Set(d, 2.4022242426872253e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 6.931470036506653e-1f));
  return hn::MulAdd(p, f, hn::Set(d, 1.0f));
}

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

// 2^x within 2e-7 of the value; 0 far below -126, infinity from 128 on, NaN for NaN.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V exp2(D d, V x) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  // One instruction splits off the integer part of x, another one scales by 2^integer: right for every x, infinite ones
  // too. Rounding down would save the subtraction, but cuts bits off a small negative x: a decay close to 1 would be
  // too small by half a unit on average, at every token.
  const V f{_mm512_reduce_ps(x.raw, _MM_FROUND_TO_NEAREST_INT)};
  return V{_mm512_scalef_ps(exp2_of_fraction(d, f).raw, hn::Sub(x, f).raw)};
#else
  // Adding 1.5 * 2^23 rounds x to an integer, which is then in the low bits.
  const hn::RebindToSigned<D> di;
  const V shift = hn::Set(d, 0x1.8p23f);
  x = at_most(d, hn::Set(d, 128.0f), at_least(d, hn::Set(d, -127.0f), x));
  const V shifted = hn::Add(x, shift);
  const V p = exp2_of_fraction(d, hn::Sub(x, hn::Sub(shifted, shift)));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
#endif
}

// log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)); from 17 on the second term is below half a unit in the last place, so
// the contract's threshold of 20 needs no branch.
template <class D, class V = hn::VFromD<D>>
HWY_INLINE V softplus(D d, V x) {
  const V e = exp2(d, hn::Mul(hn::Abs(x), hn::Set(d, -kLog2E)));
  V p = hn::Set(d, kLog1p9);
  p = hn::MulAdd(p, e, hn::Set(d, kLog1p8));
  p = hn::MulAdd(p, e, hn::Set(d, kLog1p7));
  p = hn::MulAdd(p, e, hn::Set(d, kLog1p6));
  p = hn::MulAdd(p, e, hn::Set(d, kLog1p5));
  p = hn::MulAdd(p, e, hn::Set(d, kLog1p4));
  p = hn::MulAdd(p, e, hn::Set(d, kLog1p3));
  p = hn::MulAdd(p, e, hn::Set(d, kLog1p2));
  p = hn::MulAdd(p, e, hn::Set(d, kLog1p1));
  return hn::MulAdd(p, e, at_least(d, hn::Zero(d), x));
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
