// Polynomial coefficients that the kernels of all devices share.

#pragma once

namespace vimdeploy {

inline constexpr float kLog2E = 1.44269504088896f;

// log1p(e) = e * (kLog1p1 + e * (kLog1p2 + ...)) for e in [0, 1]: relative error 3.1e-8. Minimax (Lawson's iteration
// in double), then rounded to float32.
inline constexpr float kLog1p1 = 9.999999403953552e-1f;
inline constexpr float kLog1p2 = -4.999949336051941e-1f;
inline constexpr float kLog1p3 = 3.331909775733948e-1f;
inline constexpr float kLog1p4 = -2.484298199415207e-1f;
inline constexpr float kLog1p5 = 1.9106008112430573e-1f;
inline constexpr float kLog1p6 = -1.3663247227668762e-1f;
inline constexpr float kLog1p7 = 7.822596281766891e-2f;
inline constexpr float kLog1p8 = -2.950524538755417e-2f;
inline constexpr float kLog1p9 = 5.232695490121841e-3f;

}  // namespace vimdeploy
