// The scan of vimdeploy.ops.torch_ops and its gradient, for training on a CPU; training_scan.py compiles it.
//
// All tensors are contiguous float32: dt, dt_u, y and their gradients (K, B, L, E), b and c (K, B, L, N). A is
// (K, N, E), as the states are (N, E), so that the inner loops run over E, which is long enough for vectors.

#include <cmath>
#include <cstddef>
#include <vector>

namespace {

// One token: h = exp(dt A) h + dt_u b; keeps exp(dt A). The states before and after may be the same memory.
void step(const float* dt, const float* dt_u, const float* A, const float* b, const float* before, float* after,
          float* decay, size_t E, size_t N) {
  for (size_t n = 0; n < N; ++n) {
#pragma GCC ivdep
    for (size_t e = 0; e < E; ++e) {
      const size_t i = n * E + e;
      decay[i] = std::exp(dt[e] * A[i]);
      after[i] = decay[i] * before[i] + dt_u[e] * b[n];
    }
  }
}

}  // namespace

extern "C" void scan_forward(const float* dt, const float* dt_u, const float* A, const float* b, const float* c,
                             float* y, size_t K, size_t B, size_t L, size_t E, size_t N) {
  std::vector<float> states(N * E), decays(N * E);
  float* h = states.data();
  for (size_t sequence = 0; sequence < K * B; ++sequence) {
    states.assign(N * E, 0.0f);
    for (size_t token = sequence * L; token < (sequence + 1) * L; ++token) {
      const size_t row = token * E;
      step(dt + row, dt_u + row, A + sequence / B * N * E, b + token * N, h, h, decays.data(), E, N);
      for (size_t n = 0; n < N; ++n) {
        const float c_n = c[token * N + n];
#pragma GCC ivdep
        for (size_t e = 0; e < E; ++e) {
          y[row + e] = (n == 0 ? 0 : y[row + e]) + c_n * h[n * E + e];
        }
      }
    }
  }
}

// Adds to d_dt, d_dt_u and d_A, which the caller has set to zero; writes d_b and d_c.
extern "C" void scan_backward(const float* dt, const float* dt_u, const float* A, const float* b, const float* c,
                              const float* d_y, float* d_dt, float* d_dt_u, float* d_A, float* d_b, float* d_c,
                              size_t K, size_t B, size_t L, size_t E, size_t N) {
  std::vector<float> states((L + 1) * N * E), decays(L * N * E), gradients(N * E);
  float *h = states.data(), *decay = decays.data(), *d_h = gradients.data();
  for (size_t sequence = 0; sequence < K * B; ++sequence) {
    const size_t direction = sequence / B * N * E;
    for (size_t t = 0; t < L; ++t) {
      const size_t token = sequence * L + t, row = token * E, state = t * N * E;
      step(dt + row, dt_u + row, A + direction, b + token * N, h + state, h + state + N * E, decay + state, E, N);
    }
    gradients.assign(N * E, 0.0f);
    for (size_t t = L; t-- > 0;) {
      const size_t token = sequence * L + t, row = token * E;
      for (size_t n = 0; n < N; ++n) {
        const size_t before = (t * N + n) * E, after = before + N * E, own = n * E;
        const float b_n = b[token * N + n], c_n = c[token * N + n];
        float sum_b = 0, sum_c = 0;
#pragma GCC ivdep
        for (size_t e = 0; e < E; ++e) {
          const float d_after = d_h[own + e] + c_n * d_y[row + e];
          sum_c += h[after + e] * d_y[row + e];
          sum_b += d_after * dt_u[row + e];
          d_dt_u[row + e] += d_after * b_n;
          d_h[own + e] = d_after * decay[before + e];
          const float d_exponent = d_h[own + e] * h[before + e];
          d_dt[row + e] += d_exponent * A[direction + own + e];
          d_A[direction + own + e] += d_exponent * dt[row + e];
        }
        d_b[token * N + n] = sum_b;
        d_c[token * N + n] = sum_c;
      }
    }
  }
}
