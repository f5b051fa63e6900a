"""The compiled kernels on PyTorch's tensors, against the plain loops, and who computes when."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers.scans import group_inputs, torched
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vimdeploy.errors import ExecutionError
from vimdeploy.ops import native, torch_ops
from vimdeploy.ops.torch_ops import causal_conv1d, selective_scan, selective_scan_with_state

TYPES = [torch.float32, torch.float16, torch.bfloat16]


def assert_close(found, wanted, length):
    """Equal up to the float32 arithmetic's roundings, which grow like the square root of the length, and one unit of
    the type.
    """
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    unit = 0.0 if wanted.dtype == torch.float32 else torch.finfo(wanted.dtype).eps
    found, wanted = found.float(), wanted.float()
    tolerance = 2.0**-24 * (8 + length**0.5) * wanted.abs().max() + unit * wanted.abs()
    assert ((found - wanted).abs() <= tolerance).all()


def by_loop(function, *arguments, **named):
    with torch_ops.plain_loops():
        return function(*arguments, **named)


def conv1d_tensors(K=2, B=2, L=9, X=8, E=5, W=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in ((B, L, X), (K, E, W), (K, E))]


@pytest.fixture
def calls(monkeypatch):
    """The sizes of each call of a C function."""
    if native._loaded("VimdeploySelectiveScan") is None:
        pytest.skip(
            "the library of the compiled operators is missing, cannot be loaded, or is older than its C functions"
        )
    made = []
    call = native._call

    def counted(compute, sizes, *others):
        made.append(tuple(sizes))
        call(compute, sizes, *others)

    monkeypatch.setattr(native, "_call", counted)
    return made


@pytest.fixture
def no_calls(monkeypatch):
    """No C function may be called."""

    def refused(*_):
        raise AssertionError("a C function was called")

    monkeypatch.setattr(native, "_call", refused)


class TestAgainstTheLoops:
    @pytest.mark.parametrize("dtype", TYPES, ids=str)
    @pytest.mark.parametrize("delta_softplus", [True, False])
    @pytest.mark.parametrize("R", [0, 2])
    @pytest.mark.parametrize(("L", "N"), [(1, 1), (2, 3), (13, 8), (13, 64), (500, 1), (500, 16)])
    def test_scans(self, calls, dtype, delta_softplus, R, L, N):
        inputs = torched(group_inputs(B=2, G=3, L=L, E=21, N=N, R=R), dtype)
        if not delta_softplus:
            inputs["delta_bias"].abs_()  # or all grows without an end
        flags = {"reverse": (0, 1, 1), "delta_softplus": delta_softplus}
        y, state = selective_scan_with_state(**inputs, **flags)
        wanted_y, wanted_state = by_loop(selective_scan_with_state, **inputs, **flags)
        assert_close(y, wanted_y, L)
        assert_close(state, wanted_state, L)
        assert torch.equal(selective_scan(**inputs, **flags), y)
        assert calls == [(2, 3, L, 21, N, R)] * 2

    @pytest.mark.parametrize("dtype", TYPES, ids=str)
    @pytest.mark.parametrize("silu", [True, False])
    @pytest.mark.parametrize("X", [5, 8, 10])
    def test_convolutions(self, calls, dtype, silu, X):
        inputs = conv1d_tensors(X=X, dtype=dtype)
        u = causal_conv1d(*inputs, reverse=(0, 1), silu=silu)
        assert_close(u, by_loop(causal_conv1d, *inputs, reverse=(0, 1), silu=silu), 1)
        assert calls == [(2, 9, X, 2, 5, 4)]

    def test_views_of_channel_major_tensors(self, calls):
        inputs = torched(group_inputs(B=2, G=2, L=12, E=6, N=4))
        wanted = selective_scan(**inputs, reverse=(0, 1))
        views = {
            name: x.transpose(-1, -2).contiguous().transpose(-1, -2) if x.ndim == 4 else x for name, x in inputs.items()
        }
        views["D"] = torch.stack([inputs["D"]] * 2, dim=-1)[..., 0]
        assert not views["u"].is_contiguous()
        assert torch.equal(selective_scan(**views, reverse=(0, 1)), wanted)
        assert len(calls) == 2

    @pytest.mark.parametrize("dtype", TYPES, ids=str)
    def test_tensors_at_any_address(self, calls, dtype):
        inputs = torched(group_inputs(B=1, L=20, E=33, N=16, R=3), dtype)
        wanted = selective_scan(**inputs, reverse=(0, 1))
        for offset in (1, 3):
            moved = {}
            for name, x in inputs.items():
                room = x.new_empty(x.numel() + offset)[offset:]
                moved[name] = room.copy_(x.flatten()).view(x.shape)
            assert torch.equal(selective_scan(**moved, reverse=(0, 1)), wanted)
        x, weight, bias = conv1d_tensors(X=32, E=32, dtype=dtype)
        room = x.new_empty(x.numel() + 1)[1:].copy_(x.flatten()).view(x.shape)
        assert torch.equal(
            causal_conv1d(room, weight, bias, reverse=(0, 1)), causal_conv1d(x, weight, bias, reverse=(0, 1))
        )
        assert len(calls) == 5

    def test_an_empty_batch(self, calls):
        assert selective_scan(**torched(group_inputs(B=0)), reverse=(0, 1)).shape == (0, 2, 7, 5)
        assert causal_conv1d(*conv1d_tensors(B=0), reverse=(0, 1)).shape == (2, 0, 9, 5)
        assert len(calls) == 2

    def test_from_many_threads(self, calls):
        inputs = torched(group_inputs(B=1, L=50, E=40, N=16))
        wanted = selective_scan(**inputs, reverse=(0, 1))
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: selective_scan(**inputs, reverse=(0, 1)), range(40)))
        assert all(torch.equal(y, wanted) for y in found)
        assert len(calls) == 41


class TestWhoComputes:
    def test_a_weight_without_a_gradient_is_no_reason_for_the_loop(self, calls):
        x, *weights = conv1d_tensors()
        u = causal_conv1d(x, *(nn.Parameter(w, requires_grad=False) for w in weights), reverse=(0, 1))
        with torch.no_grad():
            again = causal_conv1d(x, *map(nn.Parameter, weights), reverse=(0, 1))
        assert torch.equal(u, again)
        assert len(calls) == 2

    @pytest.mark.usefixtures("no_calls")
    @pytest.mark.parametrize("name", ["u", "A", "delta_weight"])
    def test_the_loop_if_a_gradient_is_wanted(self, name):
        inputs = torched(group_inputs(R=2))
        inputs[name].requires_grad_()
        y, state = selective_scan_with_state(**inputs, reverse=(0, 1))
        (y.sum() + state.sum()).backward()
        assert inputs[name].grad.abs().max() > 0

    @pytest.mark.usefixtures("no_calls")
    def test_the_loop_if_a_gradient_of_a_convolution_is_wanted(self):
        x, weight, bias = conv1d_tensors()
        causal_conv1d(x, nn.Parameter(weight), bias, reverse=(0, 1)).sum().backward()

    @pytest.mark.usefixtures("no_calls")
    def test_the_loop_in_a_block_that_says_so(self):
        with torch_ops.plain_loops():
            assert selective_scan(**torched(group_inputs()), reverse=(0, 1)).isfinite().all()

    def test_the_block_of_one_thread_is_not_that_of_another(self, calls):
        inputs = torched(group_inputs())
        with ThreadPoolExecutor(1) as pool, torch_ops.plain_loops():
            pool.submit(selective_scan, **inputs, reverse=(0, 1)).result()
        assert len(calls) == 1

    @pytest.mark.usefixtures("no_calls")
    @pytest.mark.parametrize("library", [None, "libm.so.6", __file__], ids=["none", "an older one", "no library"])
    def test_the_loop_without_a_library_that_has_it(self, monkeypatch, library):
        monkeypatch.setattr(native, "library_path", lambda: library)
        native._loaded.cache_clear()
        try:
            assert selective_scan(**torched(group_inputs()), reverse=(0, 1)).isfinite().all()
            assert causal_conv1d(*conv1d_tensors(), reverse=(0, 1)).isfinite().all()
        finally:
            native._loaded.cache_clear()

    @pytest.mark.usefixtures("no_calls")
    def test_the_loop_for_tensors_without_memory(self):
        with FakeTensorMode() as mode:
            inputs = {name: mode.from_tensor(x) for name, x in torched(group_inputs()).items()}
            assert selective_scan(**inputs, reverse=(0, 1)).shape == inputs["u"].shape
        meta = {name: x.to("meta") for name, x in torched(group_inputs()).items()}
        assert selective_scan(**meta, reverse=(0, 1)).is_meta

    @pytest.mark.usefixtures("no_calls")
    @pytest.mark.parametrize("tracer", ["jit", "export"])
    def test_the_loop_while_another_tracer_looks(self, tracer):
        class Model(nn.Module):
            def forward(self, x, weight, bias):
                return causal_conv1d(x, weight, bias, reverse=(0, 1))

        x, *weights = conv1d_tensors()
        if tracer == "jit":
            run = torch.jit.trace(Model(), (x, *weights), check_trace=False)
        else:
            run = torch.export.export(Model(), (x, *weights)).module()
        with torch_ops.plain_loops():
            torch.testing.assert_close(run(2 * x, *weights), causal_conv1d(2 * x, *weights, reverse=(0, 1)))


@pytest.mark.parametrize("R", [0, 2])
@pytest.mark.parametrize(("L", "N"), [(1, 3), (13, 1), (500, 16)])
def test_the_last_state_beside_kernels_that_do_not_keep_it(monkeypatch, R, L, N):
    inputs = torched(group_inputs(L=L, N=N, R=R))
    y, wanted = by_loop(selective_scan_with_state, **inputs, reverse=(0, 1))
    monkeypatch.setattr(native, "selective_scan", lambda *_: (y, None))
    found, state = selective_scan_with_state(**inputs, reverse=(0, 1))
    assert found is y
    assert_close(state, wanted, L)


def test_what_a_kernel_says_is_told(monkeypatch):
    monkeypatch.setattr(native, "_loaded", lambda *_: lambda *_: b"SelectiveScan: there is no memory")
    with pytest.raises(ExecutionError, match=r"compiled operators gave up: SelectiveScan: there is no memory\."):
        selective_scan(**torched(group_inputs()), reverse=(0, 1))


def test_a_function_for_cuda_gets_the_device_and_its_stream_in_place_of_the_threads(monkeypatch):
    class OnCuda:
        """What a call asks a tensor of another device."""

        dtype, device = torch.float16, torch.device("cuda", 1)

        def __init__(self, address):
            self.address = address

        def contiguous(self):
            return self

        def data_ptr(self):
            return self.address

    class Stream:
        cuda_stream = 1 << 40

    passed = []
    monkeypatch.setattr(torch.cuda, "current_stream", {OnCuda.device: Stream}.__getitem__)
    tensors = [OnCuda(n << 40) for n in (1, 2, 3)]
    native._call(lambda *given: passed.extend(given), (2, 9, 8), (0, 1), True, tensors, [OnCuda(4 << 40), None])
    type_, sizes, reverse, flag, inputs, output, state, device, stream = passed
    assert (type_, list(sizes), list(reverse), flag, device) == (1, [2, 9, 8], [0, 1], 1, 1)
    assert list(inputs) == [1 << 40, 2 << 40, 3 << 40, None, None, None, None, None]
    assert (output.value, state, stream.value) == (4 << 40, None, 1 << 40)
