// Stands for cuda_operators.cpp where no CUDA compiler was found.

#include "onnxruntime/devices.h"

namespace vimdeploy::onnxruntime {

void add_cuda_operators(Ort::CustomOpDomain&) {}

}  // namespace vimdeploy::onnxruntime
