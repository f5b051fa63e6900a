"""What CUDA's driver declares, so that a stand-in takes no call that the real one would take for another.

ctypes passes on whatever it is given: an address as a plain number would lose its upper half.
"""

import ctypes

CALLS = {
    "cuInit": "unsigned int",
    "cuGetErrorString": "CUresult, const char **",
    "cuDeviceGet": "CUdevice *, int",
    "cuDeviceGetCount": "int *",
    "cuDeviceGetName": "char *, int, CUdevice",
    "cuDeviceGetAttribute": "int *, CUdevice_attribute, CUdevice",
    "cuDevicePrimaryCtxRetain": "CUcontext *, CUdevice",
    "cuCtxPushCurrent_v2": "CUcontext",
    "cuCtxPopCurrent_v2": "CUcontext *",
    "cuMemGetInfo_v2": "size_t *, size_t *",
    "cuMemAlloc_v2": "CUdeviceptr *, size_t",
    "cuMemFree_v2": "CUdeviceptr",
    "cuMemcpyDtoH_v2": "void *, CUdeviceptr, size_t",
    "cuMemcpyDtoDAsync_v2": "CUdeviceptr, CUdeviceptr, size_t, CUstream",
    "cuPointerGetAttribute": "void *, CUpointer_attribute, CUdeviceptr",
    "cuEventCreate": "CUevent *, unsigned int",
    "cuEventRecord": "CUevent, CUstream",
    "cuEventSynchronize": "CUevent",
    "cuEventDestroy_v2": "CUevent",
    "cuStreamWaitEvent": "CUstream, CUevent, unsigned int",
    "cuStreamSynchronize": "CUstream",
    "cuStreamBeginCapture_v2": "CUstream, CUstreamCaptureMode",
    "cuStreamEndCapture": "CUstream, CUgraph *",
    "cuGraphInstantiateWithFlags": "CUgraphExec *, CUgraph, unsigned long long",
    "cuGraphLaunch": "CUgraphExec, CUstream",
    "cuGraphDestroy": "CUgraph",
    "cuGraphExecDestroy": "CUgraphExec",
}
"""What each function takes; ``tests/test_driver_calls.py`` holds it against cuda.h."""

_TYPES = {
    "CUdeviceptr": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "int": ctypes.c_int,
    "CUdevice": ctypes.c_int,
    "const char *": ctypes.c_char_p,
}
_NUMBERS = {"int", "unsigned int", "unsigned long long", "CUresult", "CUdevice"} | {
    "CUdevice_attribute",
    "CUpointer_attribute",
    "CUstreamCaptureMode",
}
"""Those that fit into an int may be numbers of Python."""


def fits(declared, given):
    """Whether an argument is what a function declares."""
    if declared in _NUMBERS and isinstance(given, int):
        return -(1 << 31) <= given < 1 << 31 and declared != "unsigned long long"
    if declared == "unsigned long long":
        return isinstance(given, ctypes.c_ulonglong)
    target = getattr(given, "_obj", None)  # of ctypes.byref
    if target is not None:
        return declared == "void *" or type(target) is _TYPES.get(declared.removesuffix("*").strip(), ctypes.c_void_p)
    return type(given) is _TYPES.get(declared, ctypes.c_void_p)


def checked(name, call):
    """A stand-in's function that takes what the real one declares."""

    def called(*given):
        for declared, argument in zip(CALLS[name].split(", "), given, strict=True):
            assert fits(declared, argument), f"{name} wants {declared}, not {argument!r}"
        return call(*given)

    return called
