// Marks the functions that a shared library exports.

#pragma once

#ifdef _WIN32
#define VIMDEPLOY_EXPORT extern "C" __declspec(dllexport)
#else
#define VIMDEPLOY_EXPORT extern "C" __attribute__((visibility("default")))
#endif
