// What the kernels take for a token of one direction and 32 channels, in a full tile: counted in their machine code by
// tools/scan_costs --table, which writes the numbers below; a test counts again.

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
    {Walk::output, Form::gated, 4, 1, 2, {44.2, 5.59, 1.61}, {15.0, 4.01, 1.00}, {1.1, 1.02, 0.62}},
    {Walk::output, Form::gated, 4, 2, 2, {112.8, 0.00, 1.58}, {78.9, 0.00, 1.01}, {8.6, 0.00, 0.41}},
    {Walk::output, Form::low_rank, 4, 1, 1, {40.4, 5.70, 1.61}, {12.0, 4.02, 1.00}, {0.2, 1.03, 0.62}},
    {Walk::output, Form::low_rank, 4, 2, 1, {103.8, 0.00, 1.81}, {75.8, 0.00, 1.02}, {7.2, 0.00, 0.44}},
    {Walk::output, Form::given, 4, 1, 1, {39.5, 5.62, 0.00}, {13.0, 4.02, 0.00}, {0.0, 1.03, 0.00}},
    {Walk::output, Form::given, 4, 2, 1, {114.2, 0.00, 0.00}, {77.2, 0.00, 0.00}, {8.5, 0.00, 0.00}},
    {Walk::cluster, Form::gated, 2, 1, 1.5, {46.0, 5.77, 2.75}, {15.6, 4.00, 0.00}, {3.6, 1.00, 0.50}},
    {Walk::cluster, Form::low_rank, 2, 1, 1, {46.1, 5.69, 4.25}, {14.0, 4.00, 0.00}, {2.5, 1.00, 1.00}},
    {Walk::cluster, Form::given, 2, 1, 1, {41.2, 5.62, 0.00}, {14.2, 3.98, 0.00}, {0.2, 1.02, 0.00}},
    {Walk::cluster, Form::gated, 4, 1, 1.5, {37.5, 5.64, 1.61}, {14.5, 4.00, 1.00}, {0.6, 1.01, 0.62}},
    {Walk::cluster, Form::low_rank, 4, 1, 1, {39.9, 5.59, 1.61}, {13.0, 4.02, 1.00}, {0.2, 1.03, 0.62}},
    {Walk::cluster, Form::given, 4, 1, 1, {37.8, 5.66, 0.00}, {14.0, 4.02, 0.00}, {0.0, 1.03, 0.00}},
    {Walk::summary, Form::gated, 2, 1, 1, {35.1, 4.55, 2.38}, {13.0, 2.98, 0.25}, {3.2, 0.52, 0.50}},
    {Walk::summary, Form::gated, 2, 2, 1, {92.8, 0.00, 4.12}, {61.0, 0.00, 0.00}, {5.5, 0.00, 0.75}},
    {Walk::summary, Form::low_rank, 2, 1, 1, {38.4, 4.39, 2.75}, {13.0, 2.98, 0.25}, {3.2, 0.45, 1.00}},
    {Walk::summary, Form::low_rank, 2, 2, 1, {92.8, 0.00, 4.12}, {61.0, 0.00, 0.00}, {5.5, 0.00, 0.75}},
    {Walk::summary, Form::given, 2, 1, 1, {31.2, 4.42, 0.00}, {13.2, 2.98, 0.00}, {0.2, 0.52, 0.00}},
    {Walk::summary, Form::given, 2, 2, 1, {92.8, 0.00, 0.00}, {61.0, 0.00, 0.00}, {4.5, 0.00, 0.00}},
    {Walk::summary, Form::gated, 4, 1, 1, {29.5, 4.47, 1.61}, {12.0, 3.02, 1.00}, {0.2, 0.53, 0.62}},
    {Walk::summary, Form::gated, 4, 2, 1, {83.4, 0.00, 1.73}, {59.8, 0.00, 1.02}, {3.2, 0.00, 0.44}},
    {Walk::summary, Form::low_rank, 4, 1, 1, {31.5, 4.52, 1.61}, {12.0, 3.02, 1.00}, {0.2, 0.53, 0.62}},
    {Walk::summary, Form::low_rank, 4, 2, 1, {82.6, 0.00, 1.81}, {59.8, 0.00, 1.02}, {3.2, 0.00, 0.44}},
    {Walk::summary, Form::given, 4, 1, 1, {30.9, 4.44, 0.00}, {13.0, 3.02, 0.00}, {0.0, 0.53, 0.00}},
    {Walk::summary, Form::given, 4, 2, 1, {92.9, 0.00, 0.00}, {61.2, 0.00, 0.00}, {4.5, 0.00, 0.00}},
};

}  // namespace vimdeploy::cuda
