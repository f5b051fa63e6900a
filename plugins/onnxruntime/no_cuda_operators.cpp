// Takes the place of cuda_operators.cpp in a build without a CUDA compiler.

#include "onnxruntime/devices.h"

namespace vimdeploy::onnxruntime {

void add_cuda_operators(Ort::CustomOpDomain&) {}

}  // namespace vimdeploy::onnxruntime
