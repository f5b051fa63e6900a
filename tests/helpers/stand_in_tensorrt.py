"""Stand-ins for TensorRT and pycuda, which need a GPU: they compute nothing, and write down what was asked of them.

Only what vimdeploy calls is here, with the names and the failures of the real ones; ``tests/test_flavors.py`` holds the
names against the real packages, and against ``tensorrt_bindings`` for the versions that are not installed.
"""

import ctypes
import math
import threading
from collections import defaultdict, deque
from enum import Enum
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from helpers.cuda_declarations import checked
from helpers.tensorrt_bindings import bindings_of

PLAN = b"a plan"
WORKING_MEMORY = 4096
MARKS_WEIGHTS = "mark_weights_refittable"
"""The method of a network, which TensorRT 10.0 has not."""
MEMORY_SIZES = {"device_memory_size", "device_memory_size_v2"}
"""What versions of TensorRT call the bytes that an engine's contexts work in."""


class _Flag(Enum):
    def __int__(self):
        return self.value


class _Logger:
    class Severity(Enum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity


class Layer:
    """A layer of a network, as an ``ILayer``: it does not tell its plugin."""

    type = None

    def __init__(self, type_):
        self.type = type_


class ParserError:
    """Why the parser refuses; by default what TensorRT says of an operator that it does not know."""

    def __init__(self, desc="Plugin not found", func="checkFallbackPluginImporter", node=3, name="it", stack=()):
        self._desc, self._func, self._node, self._name, self._stack = desc, func, node, name, list(stack)

    def desc(self):
        return self._desc

    def func(self):
        return self._func

    def node(self):
        return self._node

    def node_name(self):
        return self._name

    def node_operator(self):
        return "NoSuchOperator" if self._node >= 0 else ""

    def local_function_stack(self):
        return self._stack


class Parser:
    """Takes each node of our domain for our plugin, or does as it is told."""

    def __init__(self, trt, network, logger):
        self.trt, self.network, self.logger = trt, network, logger

    num_errors = property(lambda self: len(self.trt.parser_errors))

    def parse(self, data):
        import onnx

        model = onnx.load_model_from_string(data)
        self.trt.parsed = model
        for line in self.trt.parser_logs:
            self.logger.log(self.trt.ILogger.ERROR, line)
        if self.trt.parser_errors or self.trt.parser_logs:
            return False
        ours = [node.op_type for node in model.graph.node if node.domain == "vimdeploy"]
        bodies = {function.name for function in model.functions} if self.trt.prefers_functions else set()
        plugins = [Layer(self.trt.LayerType.PLUGIN_V3) for name in ours if name not in bodies]
        self.network.layers = [Layer(self.trt.LayerType.SHUFFLE), *plugins[self.trt.lost_plugins :]]
        return True

    def get_error(self, index):
        return self.trt.parser_errors[index]


class Network:
    """Takes every weight for one that can be another, but those that it is told of."""

    def __init__(self, trt, flags):
        self.flags, self.layers = flags, []
        if MARKS_WEIGHTS in bindings_of(trt.__version__)["INetworkDefinition"]:
            setattr(self, MARKS_WEIGHTS, lambda name: trt.marked.append(name) or name not in trt.fixed_weights)

    num_layers = property(lambda self: len(self.layers))

    def get_layer(self, index):
        return self.layers[index]


class Context:
    """An execution context."""

    def __init__(self, cuda, engine):
        self._cuda, self._profiles, self._outputs = cuda, engine.profiles, engine.outputs
        self._inputs = self._profiles[0]
        self._shapes, self._addresses = {}, {}
        self.refuses = engine.refuses

    device_memory = property(fset=lambda self, address: self._cuda.calls.append(("context memory", address)))

    def _call(self, name, *arguments):
        self._cuda.calls.append((name, *arguments))
        return name not in self.refuses

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return self._call("set_tensor_address", name, address)

    def set_optimization_profile_async(self, index, stream):
        if not self._call("set_optimization_profile", index, stream):
            return False
        self._inputs, self._shapes = self._profiles[index], {}
        return True

    def set_input_shape(self, name, shape):
        smallest, _, largest = self._inputs[name]
        fits = all(low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True))
        if not self._call("set_input_shape", tuple(shape)) or not fits:
            return False
        self._shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name):
        """-1 for what is not known as long as an input has no shape."""
        if name in self._inputs:
            return self._shapes.get(name, (-1,) * len(self._inputs[name][0]))
        if self._shapes.keys() != self._inputs.keys():
            return (-1,)
        return self._outputs[name](**{given: np.zeros(shape) for given, shape in self._shapes.items()}).shape

    def execute_async_v3(self, stream):
        if not self._call("execute", stream):
            return False
        memory, addresses, shapes, outputs = self._cuda.floats, self._addresses, dict(self._shapes), self._outputs

        def work():  # holds no context
            given = {name: memory(addresses[name], shape) for name, shape in shapes.items()}
            for name, answer in outputs.items():
                found = answer(**given)
                memory(addresses[name], found.shape)[:] = found

        self._cuda.put(stream, work)
        return True

    def __del__(self):
        self._cuda.calls.append(("free context",))


class RuntimeConfig:
    """How TensorRT-RTX is to run an engine."""

    cuda_graph_strategy = None


class Engine:
    """By default one input (1 to 8, 3, 2, 4) and one output, the first five values of each image.

    Args:
        inputs: by name, the smallest and the largest shape; between them the one that it is fastest at, or the
            smallest is.
        outputs: by name, a function of the inputs.
        others: inputs of further profiles.
    """

    def __init__(self, cuda, trt, inputs, outputs, *others):
        self._cuda, self._trt, self.inputs, self.outputs = cuda, trt, inputs, outputs
        self.profiles = [
            {name: shapes if len(shapes) == 3 else (shapes[0], *shapes) for name, shapes in profile.items()}
            for profile in (inputs, *others)
        ]
        self._names = [*outputs, *inputs]
        self.refuses = set()
        for name in MEMORY_SIZES & bindings_of(trt.__version__)["ICudaEngine"] if type(self) is Engine else ():
            setattr(self, name, WORKING_MEMORY)

    num_io_tensors = property(lambda self: len(self._names))
    refittable = True

    def get_tensor_name(self, index):
        return self._names[index]

    def get_tensor_mode(self, name):
        return self._trt.TensorIOMode.INPUT if name in self.inputs else self._trt.TensorIOMode.OUTPUT

    num_optimization_profiles = property(lambda self: len(self.profiles))

    def get_tensor_profile_shape(self, name, profile):
        return list(self.profiles[profile][name])

    def get_tensor_dtype(self, name):
        return np.float32

    def create_execution_context(self, strategy):
        self.strategy = strategy
        return None if "create_execution_context" in self.refuses else Context(self._cuda, self)

    def create_serialization_config(self):
        return SerializationConfig()

    def serialize_with_config(self, config):
        return b"a plan" if config.flags == set() else b"a plan that stays refittable"

    def __del__(self):
        self._cuda.calls.append(("free engine",))


class SerializationConfig:
    def __init__(self):
        self.flags = set()

    def set_flag(self, flag):
        self.flags.add(flag)


class Refitter:
    """Reads the weights when it is to put them in; ``lacks`` are names that it does not know, and that it misses."""

    def __init__(self, trt, engine):
        self.trt, self.given = trt, {}

    def get_all_weights(self):
        return [name for name in self.trt.marked if name not in self.trt.lacks]

    def set_named_weights(self, name, weights):
        self.given[name] = weights
        return weights.count > 0 and name not in self.trt.refuses

    def get_missing_weights(self):
        return list(self.trt.misses)

    def refit_cuda_engine(self):
        for name, (dtype, address, count) in self.given.items():
            size = count * {"FLOAT": 4, "HALF": 2, "BF16": 2}[dtype.name]
            self.trt.refitted[name] = ctypes.string_at(address, size)
        return not self.trt.misses and not self.trt.refit_fails


class Weights(NamedTuple):
    """Where the values of a weight are."""

    dtype: Enum
    address: int
    count: int


class RtxEngine(Engine):
    """An engine of TensorRT-RTX."""

    def create_runtime_config(self):
        return RuntimeConfig()


def classifier(size=(2, 4), smallest=1):
    """Inputs and outputs of an engine that takes pictures."""
    inputs = {"images": tuple((batch, 3, *size) for batch in (smallest, 8))}
    return inputs, {"logits": lambda images: images.reshape(len(images), -1)[:, :5]}


def tensorrt(version="10.3.0", cuda=None, size=(2, 4), **lacking):
    """A stand-in for the module ``tensorrt``.

    Args:
        version: its ``__version__``, of TensorRT or, below 2, of TensorRT-RTX.
        cuda: the stand-in for pycuda that keeps the calls, for tests that run engines.
        size: height and width of the pictures that the engine takes.
        **lacking: enumerations by name, with the members that this version has not: ``LayerType={"PLUGIN_V3"}``.
    """

    is_rtx = version.startswith("1.")

    def enum(name, *members):
        known = members if is_rtx else bindings_of(version)[name]
        return _Flag(name, [member for member in members if member in known and member not in lacking.get(name, ())])

    trt = SimpleNamespace(
        __version__=version,
        parsed=None,
        parser_errors=[],
        parser_logs=[],
        prefers_functions=False,
        lost_plugins=0,
        engine=None,
        runtime_registry=None,
        start_errors=[],
        marked=[],
        fixed_weights=(),
        lacks=(),
        refuses=(),
        misses=(),
        refit_fails=False,
        refitted={},
        ILogger=type("ILogger", (_Logger,), {}),
        IProgressMonitor=type("IProgressMonitor", (), {}),
        LayerType=enum("LayerType", "SHUFFLE", "PLUGIN_V3"),
        ExecutionContextAllocationStrategy=enum("ExecutionContextAllocationStrategy", "STATIC", "USER_MANAGED"),
        NetworkDefinitionCreationFlag=enum("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
        HardwareCompatibilityLevel=enum("HardwareCompatibilityLevel", "NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"),
        MemoryPoolType=enum("MemoryPoolType", "WORKSPACE"),
        BuilderFlag=enum("BuilderFlag", "REFIT", "REFIT_INDIVIDUAL"),
        DataType=enum("DataType", "FLOAT", "HALF", "BF16"),
        SerializationFlag=enum("SerializationFlag", "EXCLUDE_WEIGHTS", "INCLUDE_REFIT"),
        Weights=Weights,
        ProfilingVerbosity=enum("ProfilingVerbosity", "LAYER_NAMES_ONLY", "DETAILED"),
        TensorIOMode=enum("TensorIOMode", "NONE", "INPUT", "OUTPUT"),
        nptype=lambda dtype: dtype,
    )
    trt.Builder = lambda logger: SimpleNamespace(create_network=lambda flags: Network(trt, flags))
    trt.Refitter = lambda engine, logger: Refitter(trt, engine)
    trt.OnnxParser = lambda network, logger: Parser(trt, network, logger)
    trt.registry = Registry()
    trt.get_plugin_registry = lambda: trt.registry
    if is_rtx:
        trt.CudaGraphStrategy = _Flag("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"])
    if cuda is not None:
        trt.engine = (RtxEngine if is_rtx else Engine)(cuda, trt, *classifier(size))
        trt.Runtime = lambda logger: Runtime(trt, cuda, logger)
    return trt


class Runtime:
    def __init__(self, trt, cuda, logger):
        self.trt, self.cuda = trt, cuda
        self.engine_host_code_allowed = False
        self.registry = Registry(parent=trt.registry)
        for line in trt.start_errors:
            logger.log(trt.ILogger.ERROR, line)

    def get_plugin_registry(self):
        self.trt.runtime_registry = self.registry
        return self.registry

    def deserialize_cuda_engine(self, plan):
        self.cuda.calls.append(("deserialize", plan, self.engine_host_code_allowed))
        engine, self.trt.engine = self.trt.engine, None
        return engine

    def __del__(self):
        self.cuda.calls.append(("free runtime",))


class Registry:
    """Knows the plugins of a library once it is loaded, and those of its parent if that is to be asked."""

    parent_search_enabled = True

    def __init__(self, parent=None):
        self.loaded, self.brings = [], {"1"}
        self.versions, self.parent = set(), parent

    def get_creator(self, name, version, namespace):
        known = version in self.versions and namespace == "vimdeploy"
        if not known and self.parent and self.parent_search_enabled:
            return self.parent.get_creator(name, version, namespace)
        return object() if known else None

    def load_library(self, path):
        self.loaded.append(path)
        self.versions |= self.brings
        return object()


class Cuda:
    """A stand-in for ``pycuda.driver``, and for the driver's calls, as ctypes shows them.

    Its memory is the CPU's, at the addresses that it has there. Work that is put into a stream is done as late as CUDA
    may do it: when somebody waits for it, so that whoever forgets to wait finds that nothing was done. While a graph is
    captured, work is kept for its launches.
    """

    class Error(Exception):
        pass

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        return checked(name, found) if name.startswith("cu") else found

    def __init__(self):
        self.calls = []
        self.thread = threading.local()
        self.fails = set()
        self.memory = {}
        self.streams = defaultdict(deque)
        self.recorded_at = {}
        self.recordings = {}
        self.graphs = {}

    @property
    def depth(self):
        """How often the context was made current by this thread."""
        return getattr(self.thread, "depth", 0)

    def put(self, stream, work):
        """Into a stream, by its handle."""
        self.recordings.get(stream, self.streams[stream]).append(work)

    def finish(self, stream, until=None):
        """Do what was put into a stream, to its end or to an event."""
        while self.streams[stream]:
            work = self.streams[stream].popleft()
            work()
            if work is until:
                return

    def _finish_event(self, event):
        """Do what comes before an event, as ``recorded_at`` has it."""
        if event and event[1] in self.streams[event[0]]:
            self.finish(*event)

    def _finish_all(self):
        """As CUDA does before it frees memory."""
        for stream in list(self.streams):
            self.finish(stream)

    @property
    def regions(self):
        """Addresses and bytes of what was allocated; other threads allocate meanwhile."""
        return list(self.memory.items())

    def floats(self, address, shape):
        """An array in memory that was allocated, and not freed since."""
        return self.bytes(address, 4 * math.prod(shape)).view(np.float32).reshape(shape)

    def bytes(self, address, size):
        """As ``floats``, of bytes."""
        inside = [start for start, array in self.regions if start <= address <= start + array.nbytes - size]
        assert inside, f"{size} bytes at {address} are nobody's"
        start = max(inside)
        return self.memory[start][address - start :][:size]

    def array(self, array, stream=None):
        """A library's array on the GPU, with the values of one of numpy, that a stream writes."""
        self.memory[array.ctypes.data] = np.frombuffer(array.data, np.uint8)
        return Foreign(array, stream)

    def _call(self, name, *arguments):
        assert self.depth or name in ("push", "init"), f"{name} without the context"
        self.calls.append((name, *arguments))
        if name in self.fails:
            raise self.Error(f"{name} failed: out of memory")

    def names(self):
        """The calls without their arguments."""
        return [call[0] for call in self.calls]

    def init(self):
        self._call("init")

    def Device(self, number):  # noqa: N802
        return SimpleNamespace(retain_primary_context=lambda: self)

    def push(self):
        self._call("push")
        self.thread.depth = self.depth + 1

    def pop(self):
        self.thread.depth -= 1

    def Stream(self, flags):  # noqa: N802
        self._call("stream", flags)
        handle = 76 + self.names().count("stream")

        def synchronize():
            self.finish(handle)
            self._call("synchronize")

        return SimpleNamespace(handle=handle, synchronize=synchronize)

    def pagelocked_empty(self, shape, dtype):
        self._call("pinned", shape)
        cuda = self

        class Pinned(np.ndarray):
            base = SimpleNamespace(free=lambda: cuda._call("free pinned", shape))

        return np.zeros(shape, dtype).view(Pinned)

    def mem_alloc(self, size):
        self._call("allocate", size)
        cuda, array = self, np.full(size, 255, np.uint8)  # every float32 in it is NaN

        class Allocation(int):
            def free(self):
                cuda._finish_all()
                cuda._call("free", size)
                del cuda.memory[int(self)]

        self.memory[array.ctypes.data] = array
        return Allocation(array.ctypes.data)

    def memcpy_htod_async(self, to, array, stream):
        self._call("copy in", len(array))
        self.put(stream.handle, lambda: np.copyto(self.floats(int(to), array.shape), array))

    def memcpy_dtoh_async(self, array, source, stream):
        self._call("copy out", len(array))
        self.put(stream.handle, lambda: np.copyto(array, self.floats(int(source), array.shape)))

    # the driver itself, as ctypes shows it

    def _status(self, name, *arguments):
        assert self.depth, f"{name} without the context"
        self.calls.append((name, *arguments))
        return 2 * (name in self.fails)

    def cuDeviceGet(self, device, index):  # noqa: N802
        return 0

    def cuDevicePrimaryCtxRetain(self, context, device):  # noqa: N802
        return 0

    def cuCtxPushCurrent_v2(self, context):  # noqa: N802
        self.thread.depth = self.depth + 1
        return 0

    def cuCtxPopCurrent_v2(self, context):  # noqa: N802
        self.thread.depth -= 1

    def cuGetErrorString(self, status, words):  # noqa: N802
        words._obj.value = b"out of memory"

    def cuMemAlloc_v2(self, address, size):  # noqa: N802
        if self._status("allocate array", size.value):
            return 2
        array = np.full(size.value, 255, np.uint8)
        address._obj.value = array.ctypes.data
        self.memory[array.ctypes.data] = array
        return 0

    def cuMemFree_v2(self, address):  # noqa: N802
        self._finish_all()
        del self.memory[address.value]
        return self._status("free array")

    def cuMemcpyDtoDAsync_v2(self, to, source, size, stream):  # noqa: N802
        there, here = (self.bytes(place.value, size.value) for place in (to, source))
        self.put(stream.value, lambda: np.copyto(there, here))
        return self._status("copy", size.value, stream.value)

    def cuMemcpyDtoH_v2(self, to, source, size):  # noqa: N802
        ctypes.memmove(to.value, source.value, self.bytes(source.value, size.value).nbytes)
        return self._status("copy back", size.value)

    def cuPointerGetAttribute(self, value, attribute, address):  # noqa: N802
        return int(not any(start <= address.value < start + array.nbytes for start, array in self.regions))

    def cuEventCreate(self, event, flags):  # noqa: N802
        event._obj.value = 4 + self.names().count("event")
        return self._status("event", flags)

    def cuEventRecord(self, event, stream):  # noqa: N802
        def passed():
            pass

        self.put(stream.value, passed)
        self.recorded_at[event.value] = stream.value, passed
        return self._status("record", stream.value)

    def cuStreamWaitEvent(self, stream, event, flags):  # noqa: N802
        recorded = self.recorded_at.get(event.value)
        self.put(stream.value, lambda: self._finish_event(recorded))
        return self._status("wait", stream.value)

    def cuEventSynchronize(self, event):  # noqa: N802
        self._finish_event(self.recorded_at.get(event.value))
        return self._status("synchronize event")

    def cuStreamSynchronize(self, stream):  # noqa: N802
        self.finish(stream.value)
        return self._status("synchronize stream", stream.value)

    def cuEventDestroy_v2(self, event):  # noqa: N802
        return self._status("free event")

    def cuStreamBeginCapture_v2(self, stream, mode):  # noqa: N802
        self.calls.append(("begin capture", mode))
        if "begin capture" not in self.fails:
            self.recordings[stream.value] = []
        return int("begin capture" in self.fails)

    def cuStreamEndCapture(self, stream, graph):  # noqa: N802
        self.calls.append(("end capture",))
        graph._obj.value = 5 + len(self.graphs)
        self.graphs[graph._obj.value] = self.recordings.pop(stream.value)
        return int("end capture" in self.fails)

    def cuGraphInstantiateWithFlags(self, executable, graph, flags):  # noqa: N802
        self.calls.append(("instantiate",))
        executable._obj.value = graph.value
        return int("instantiate" in self.fails)

    def cuGraphDestroy(self, graph):  # noqa: N802
        self.calls.append(("free recording",))

    def cuGraphLaunch(self, executable, stream):  # noqa: N802
        self.calls.append(("launch", stream.value))
        if "launch" in self.fails:
            return 1
        for work in self.graphs[executable.value]:
            self.put(stream.value, work)
        return 0

    def cuGraphExecDestroy(self, executable):  # noqa: N802
        self.calls.append(("free graph",))


class Foreign:
    """A library's array on the GPU, by ``__cuda_array_interface__`` alone, as Numba's are.

    Args:
        array: with its values.
        stream: the entry of the interface.
    """

    def __init__(self, array, stream=None):
        self.values = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "strides": None if array.flags.c_contiguous else array.strides,
            "stream": stream,
            "version": 3,
        }
