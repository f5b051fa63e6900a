// What the kernels take for a token of one direction and 32 channels, in a full tile: counted in their machine code
// (nvcc 13.0, sm_90; other architectures are within 3 %) by tools/scan_costs --table, which writes the numbers below; a
// test counts again.

#pragma once

#include "scan/cuda/layout.h"

namespace vimdeploy::cuda {

// The kernels that walk over tokens.
enum class Walk { output, cluster, summary };

// fixed + state * state group + rank * R, or rank * products_of(R) if multiplies_by_warp.
struct Linear {
  double fixed, state, rank;
};

struct KernelCost {
  Walk walk;
  Form form;
  int bytes;        // of an element
  int channels;     // of a thread
  double specials;  // exponentials and reciprocals beside those of the states
  Linear issued;    // instructions
  Linear float32;   // of these, multiply-adds, products and sums
  Linear shared;    // clocks of a multiprocessor's shared memory
};

inline constexpr KernelCost kKernelCosts[] = {
    {Walk::output, Form::gated, 2, 1, 2, {52.6, 5.72, 3.12}, {16.1, 3.99, 0.00}, {4.1, 1.01, 0.50}},
    {Walk::output, Form::gated, 2, 2, 2, {120.9, 0.00, 4.12}, {80.0, 0.00, 0.00}, {10.5, 0.00, 0.75}},
    {Walk::output, Form::low_rank, 2, 1, 1, {54.2, 5.72, 2.75}, {14.2, 3.98, 0.00}, {4.2, 1.02, 0.50}},
    {Walk::output, Form::low_rank, 2, 2, 1, {116.4, 0.00, 4.12}, {77.0, 0.00, 0.00}, {9.5, 0.00, 0.75}},
    {Walk::output, Form::given, 2, 1, 1, {40.4, 5.64, 0.00}, {13.2, 3.98, 0.00}, {0.2, 1.02, 0.00}},
    {Walk::output, Form::given, 2, 2, 1, {115.3, 0.00, 0.00}, {77.0, 0.00, 0.00}, {8.5, 0.00, 0.00}},
    {Walk::output, Form::gated, 4, 1, 2, {42.6, 5.66, 1.61}, {15.1, 3.99, 1.00}, {1.2, 1.01, 0.62}},
    {Walk::output, Form::gated, 4, 2, 2, {113.5, 0.00, 1.53}, {79.0, 0.00, 1.00}, {8.6, 0.00, 0.41}},
    {Walk::output, Form::low_rank, 4, 1, 1, {44.2, 5.62, 1.61}, {13.2, 3.98, 1.00}, {1.5, 1.02, 0.62}},
    {Walk::output, Form::low_rank, 4, 2, 1, {104.8, 0.00, 1.74}, {76.0, 0.00, 1.00}, {7.2, 0.00, 0.44}},
    {Walk::output, Form::given, 4, 1, 1, {38.2, 5.55, 0.00}, {13.2, 3.98, 0.00}, {0.2, 1.02, 0.00}},
    {Walk::output, Form::given, 4, 2, 1, {113.0, 0.00, 0.00}, {77.0, 0.00, 0.00}, {8.5, 0.00, 0.00}},
    {Walk::cluster, Form::gated, 2, 1, 1.5, {46.0, 5.77, 2.75}, {15.6, 4.00, 0.00}, {3.6, 1.00, 0.50}},
    {Walk::cluster, Form::low_rank, 2, 1, 1, {46.3, 5.67, 4.25}, {14.0, 4.00, 0.00}, {2.5, 1.00, 1.00}},
    {Walk::cluster, Form::given, 2, 1, 1, {41.2, 5.62, 0.00}, {14.2, 3.98, 0.00}, {0.2, 1.02, 0.00}},
    {Walk::cluster, Form::gated, 4, 1, 1.5, {36.7, 5.55, 1.61}, {14.6, 4.00, 1.00}, {0.6, 1.00, 0.62}},
    {Walk::cluster, Form::low_rank, 4, 1, 1, {41.7, 5.45, 1.61}, {14.2, 3.92, 1.00}, {1.5, 0.95, 0.62}},
    {Walk::cluster, Form::given, 4, 1, 1, {36.7, 5.52, 0.00}, {14.2, 3.98, 0.00}, {0.2, 1.02, 0.00}},
    {Walk::summary, Form::gated, 2, 1, 1, {35.1, 4.55, 2.38}, {13.0, 2.98, 0.25}, {3.2, 0.52, 0.50}},
    {Walk::summary, Form::gated, 2, 2, 1, {92.8, 0.00, 4.12}, {61.0, 0.00, 0.00}, {5.5, 0.00, 0.75}},
    {Walk::summary, Form::low_rank, 2, 1, 1, {38.4, 4.39, 2.75}, {13.0, 2.98, 0.25}, {3.2, 0.45, 1.00}},
    {Walk::summary, Form::low_rank, 2, 2, 1, {92.8, 0.00, 4.12}, {61.0, 0.00, 0.00}, {5.5, 0.00, 0.75}},
    {Walk::summary, Form::given, 2, 1, 1, {31.2, 4.42, 0.00}, {13.2, 2.98, 0.00}, {0.2, 0.52, 0.00}},
    {Walk::summary, Form::given, 2, 2, 1, {92.8, 0.00, 0.00}, {61.0, 0.00, 0.00}, {4.5, 0.00, 0.00}},
    {Walk::summary, Form::gated, 4, 1, 1, {30.1, 4.34, 1.61}, {12.2, 2.98, 1.00}, {0.5, 0.52, 0.62}},
    {Walk::summary, Form::gated, 4, 2, 1, {84.2, 0.00, 1.61}, {60.8, 0.00, 0.94}, {3.1, 0.00, 0.45}},
    {Walk::summary, Form::low_rank, 4, 1, 1, {31.0, 4.47, 1.61}, {12.2, 2.98, 1.00}, {0.5, 0.52, 0.62}},
    {Walk::summary, Form::low_rank, 4, 2, 1, {83.8, 0.00, 1.69}, {60.8, 0.00, 0.94}, {3.1, 0.00, 0.45}},
    {Walk::summary, Form::given, 4, 1, 1, {29.9, 4.36, 0.00}, {13.2, 2.98, 0.00}, {0.2, 0.52, 0.00}},
    {Walk::summary, Form::given, 4, 2, 1, {90.7, 0.00, 0.00}, {61.0, 0.00, 0.00}, {4.5, 0.00, 0.00}},
};

}  // namespace vimdeploy::cuda
