/* The C functions of libvimdeploy_onnxruntime: what registers the operators in ONNX Runtime, and the operators
   themselves for hosts without it, such as ctypes. In CMake: find_package(vimdeploy), then
   vimdeploy::onnxruntime_operators.

   Tensors are dense, in the order that vimdeploy/ops/contract.py states, and in the caller's memory; nothing is kept
   after a call. T is float32 (type 0), float16 (1) or bfloat16 (2). Every function checks types, sizes and flags, and
   returns NULL, or an error message that is valid until the calling thread's next call. Any thread may call. */

#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct OrtApiBase;
struct OrtSessionOptions;
struct OrtStatus;

/* Registers the operators in the options of a session, for programs that are linked against this library; with ONNX
   Runtime's C++ API: Ort::ThrowOnError(VimdeployRegisterOperators(options, OrtGetApiBase())). Returns NULL, or a status
   that ONNX Runtime releases. RegisterCustomOps, which ONNX Runtime calls if it is given the path of the library, does
   the same, under the name that every such library has. */
struct OrtStatus* VimdeployRegisterOperators(struct OrtSessionOptions* options, const struct OrtApiBase* base);

/* SelectiveScan, or LowRankSelectiveScan if R is not 0.

   sizes       B, G, L, E, N, R
   reverse     G flags: 1 scans the tokens of the group last to first
   inputs      u (B, G, L, E) T
               delta (B, G, L, E) T or, with R, (B, G, L, R) T
               A (G, E, N) float32
               B (B, G, L, N) T
               C (B, G, L, N) T
               D (G, E) float32
               delta_bias (G, E) float32
               delta_weight (G, E, R) T or, without R, NULL
   y           (B, G, L, E) T
   last_state  (B, G, E, N) float32: the states after the last token, or NULL
   threads     the most to use, the calling one among them; a small problem takes fewer */
const char* VimdeploySelectiveScan(int type, const int64_t sizes[6], const int64_t* reverse, int delta_softplus,
                                   const void* const inputs[8], void* y, float* last_state, int threads);

/* CausalConv1d.

   sizes       B, L, X, K, E, W
   reverse     K flags: 1 reads the tokens last to first
   silu        1: SiLU after the sum, 0: nothing
   inputs      x (B, L, X) T, of which the first E channels are read, weight (K, E, W) T, bias (K, E) T
   u           (K, B, L, E) T */
const char* VimdeployCausalConv1d(int type, const int64_t sizes[6], const int64_t* reverse, int silu,
                                  const void* const inputs[3], void* u, int threads);

/* Both on a CUDA device, in libraries that were built with its compiler; others do not have these functions. Tensors
   are in the memory of the device with that number. The work, with a workspace of its own, is queued on the stream, a
   cudaStream_t, and may still be under way when a function returns. last_state must be NULL. */
const char* VimdeploySelectiveScanCuda(int type, const int64_t sizes[6], const int64_t* reverse, int delta_softplus,
                                       const void* const inputs[8], void* y, float* last_state, int device,
                                       void* stream);

const char* VimdeployCausalConv1dCuda(int type, const int64_t sizes[6], const int64_t* reverse, int silu,
                                      const void* const inputs[3], void* u, int device, void* stream);

/* What a scan is expected to take on a CUDA device that need not be here, by the model of time that chooses how the
   kernels divide it. No GPU has confirmed the model.

   name        of the operator
   sizes       B, K or G, L, E, N, R (0 if the operator has none)
   facts       of the device: multiprocessors, bytes of shared memory of a multiprocessor and of a block, ten times the
               compute capability, blocks of the largest cluster (1: none), highest clock in kHz, bandwidth of the
               memory in 10^6 bytes a second, bytes of the L2 cache
   us          microseconds of the launches of one call
   plan        how the scan is divided, in words, cut to plan_bytes with the final 0 */
const char* VimdeployExpectedScan(const char* name, int type, const int64_t sizes[6], const int64_t facts[8],
                                  double* us, char* plan, size_t plan_bytes);

#ifdef __cplusplus
}
#endif
