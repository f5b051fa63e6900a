"""What is imported inside a block, what is left of it after, and what an installation of one's own changes."""

import importlib
import importlib.machinery
import sys
import threading
import types

import pytest
import torch

import vimdeploy
from vimdeploy.compat.scan import selective_scan_fn
from vimdeploy.errors import ConfigError, MissingPackageError, VimdeployWarning

EXTENSIONS = (
    "selective_scan_cuda",
    "selective_scan_cuda_core",
    "selective_scan_cuda_nrow",
    "selective_scan_cuda_oflex",
    "selective_scan_cuda_ndstate",
    "causal_conv1d_cuda",
)
NAMES = {
    "causal_conv1d": ("causal_conv1d_fn", "causal_conv1d_update"),
    "causal_conv1d.causal_conv1d_interface": ("causal_conv1d_fn", "causal_conv1d_ref"),
    "causal_conv1d.cpp_functions": ("causal_conv1d_fwd_function", "causal_conv1d_bwd_function"),
    "mamba_ssm": ("Mamba", "Mamba2", "Mamba3", "selective_scan_fn", "mamba_inner_fn"),
    "mamba_ssm.ops.selective_scan_interface": (
        *("selective_scan_fn", "selective_scan_ref", "mamba_inner_fn", "mamba_inner_ref"),
        *("mamba_inner_fn_no_out_proj", "bimamba_inner_fn", "bimamba_inner_ref"),
    ),
    "mamba_ssm.ops.triton.layer_norm": ("RMSNorm", "layer_norm_fn", "rms_norm_fn", "_layer_norm_fwd"),
    "mamba_ssm.ops.triton.layernorm": ("RMSNorm", "layer_norm_fn", "rms_norm_fn"),
    "mamba_ssm.ops.triton.selective_state_update": ("selective_state_update",),
    "mamba_ssm.ops.triton.ssd_combined": ("mamba_chunk_scan_combined", "mamba_split_conv1d_scan_combined"),
    "mamba_ssm.modules.mamba_simple": ("Mamba",),
    "mamba_ssm.utils.generation": ("GenerationMixin", "InferenceParams"),
    "mamba_ssm.utils.hf": ("load_config_hf", "load_state_dict_hf"),
    "selective_scan": ("selective_scan_fn", "selective_scan_ref"),
    "selective_scan_vmamba": ("selective_scan_cuda_core",),
    "selective_scan_vmamba_pt202": ("selective_scan_cuda_core",),
    "fvcore.nn": ("FlopCountAnalysis", "flop_count_str", "flop_count", "parameter_count"),
    **dict.fromkeys(EXTENSIONS[:-1], ("fwd", "bwd")),
    "causal_conv1d_cuda": ("causal_conv1d_fwd", "causal_conv1d_bwd"),
}
TOP = {name.partition(".")[0] for name in NAMES} | {"triton"}


@pytest.fixture(autouse=True)
def _nothing_is_installed(monkeypatch):
    """Whatever is on this machine, the test begins without it."""
    for name in [name for name in sys.modules if name.partition(".")[0] in {*TOP, "mini", "transformers"}]:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in {*TOP, "mini", "transformers"}]:
        del sys.modules[name]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(path, text): a file of an installed package, with all the packages above it."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        for folder in file.relative_to(tmp_path).parents:
            if folder.name:
                (tmp_path / folder / "__init__.py").touch()
        file.write_text(text)
        importlib.invalidate_caches()

    return install


def state():
    return dict(sys.modules), list(sys.meta_path), torch.cuda.device


class TestImports:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_name_is_there(self, name):
        with vimdeploy.compat.mamba():
            module = importlib.import_module(name)
            scope = {}
            exec(f"from {name} import {', '.join(NAMES[name])}", scope)
        assert all(scope[function] is not None for function in NAMES[name])
        assert module.__spec__.origin == "vimdeploy.compat"

    def test_attributes_of_packages_as_python_has_them(self):
        with vimdeploy.compat.mamba():
            import mamba_ssm.ops.selective_scan_interface
        assert mamba_ssm.ops.selective_scan_interface.selective_scan_fn is mamba_ssm.selective_scan_fn

    def test_what_no_model_is_known_to_want_is_not_there(self):
        with vimdeploy.compat.mamba():
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module("mamba_ssm.no_such_module")
            with pytest.raises(ImportError, match="no_such_name"):
                exec("from mamba_ssm.ops.selective_scan_interface import no_such_name", {})

    def test_outside_nothing_is_there(self):
        with vimdeploy.compat.mamba():
            import selective_scan_cuda_oflex  # noqa: F401
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("selective_scan_cuda_oflex")


class TestAfterTheBlock:
    def test_everything_is_as_before(self):
        before = state()
        with vimdeploy.compat.mamba():
            for name in NAMES:
                importlib.import_module(name)
            assert torch.cuda.device is not before[2]
        modules, finders, device = state()
        assert {name: module for name, module in modules.items() if name in before[0]} == before[0]
        assert not {name for name in modules if name.partition(".")[0] in TOP}
        assert (finders, device) == before[1:]

    def test_after_an_exception_too(self):
        before = state()
        with pytest.raises(ZeroDivisionError), vimdeploy.compat.mamba():
            exec("import selective_scan_cuda\n1 / 0")
        assert state() == before

    def test_blocks_in_blocks(self):
        before = state()
        with vimdeploy.compat.mamba():
            with vimdeploy.compat.mamba():
                import selective_scan_cuda
            assert sys.modules["selective_scan_cuda"] is selective_scan_cuda
            import causal_conv1d  # noqa: F401
        assert state() == before

    def test_a_second_block_gives_the_same_objects(self):
        found = []
        for _ in range(2):
            with vimdeploy.compat.mamba():
                found.append([importlib.import_module(name) for name in NAMES])
        assert all(first is second for first, second in zip(*found, strict=True))

    def test_the_models_own_modules_remain(self, install):
        install("mini/model.py", "import selective_scan_cuda_core\ndef of(): return selective_scan_cuda_core.fwd")
        with vimdeploy.compat.mamba():
            import mini.model
        assert sys.modules["mini.model"] is mini.model
        assert callable(mini.model.of())

    def test_the_last_thread_to_leave_restores(self):
        before = state()
        inside, leave = threading.Event(), threading.Event()

        def stay():
            with vimdeploy.compat.mamba():
                inside.set()
                leave.wait()

        thread = threading.Thread(target=stay)
        with vimdeploy.compat.mamba():
            thread.start()
            inside.wait()
        import selective_scan_cuda  # the other thread is still inside

        assert selective_scan_cuda.fwd
        leave.set()
        thread.join()
        assert state() == before


class TestDevices:
    @pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), None, -1])
    def test_what_is_no_gpu_changes_nothing(self, device):
        with vimdeploy.compat.mamba(), torch.cuda.device(device):
            assert torch.zeros(1).device.type == "cpu"

    def test_a_gpu_is_selected_as_ever(self):
        with vimdeploy.compat.mamba():
            assert torch.cuda.device("cuda:1").idx == torch.cuda.device(1).idx == 1


class TestInstalledExtensions:
    def test_one_that_cannot_be_imported_is_stood_in_for(self, install):
        install("selective_scan_cuda.py", "raise ImportError('undefined symbol: _ZN3c104cuda')")
        with vimdeploy.compat.mamba(), pytest.warns(VimdeployWarning) as caught:
            import selective_scan_cuda
        assert selective_scan_cuda.__spec__.origin == "vimdeploy.compat"
        assert str(caught[0].message) == (
            "selective_scan_cuda is installed, and cannot be imported here (undefined symbol: _ZN3c104cuda); "
            "vimdeploy stands in for it."
        )
        assert "selective_scan_cuda" not in sys.modules

    def test_a_compiled_one_that_cannot_be_loaded_as_well(self, tmp_path, monkeypatch):
        suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
        (tmp_path / f"selective_scan_cuda_core{suffix}").write_bytes(b"of another machine")
        monkeypatch.syspath_prepend(tmp_path)
        with vimdeploy.compat.mamba(), pytest.warns(VimdeployWarning, match="selective_scan_cuda_core is installed"):
            import selective_scan_cuda_core
        assert selective_scan_cuda_core.fwd

    WORKING = "calls = []\ndef fwd(*arguments): calls.append(arguments); return ['theirs']"

    def test_one_that_works_is_kept_for_the_gpu_and_ours_answers_else(self, install):
        install("selective_scan_cuda_core.py", self.WORKING)
        with vimdeploy.compat.mamba():
            import selective_scan_cuda_core

            u = torch.ones(1, 2, 3)
            arguments = u, u, -torch.ones(2, 1), torch.ones(1, 1, 1, 3), torch.ones(1, 1, 1, 3), None, None, True, 1
            y, _ = selective_scan_cuda_core.fwd(*arguments)
            assert y.shape == u.shape
            assert not selective_scan_cuda_core.calls
            on_a_gpu = types.SimpleNamespace(is_cuda=True)
            assert selective_scan_cuda_core.fwd(on_a_gpu, 1) == ["theirs"]
        assert sys.modules["selective_scan_cuda_core"] is selective_scan_cuda_core
        assert selective_scan_cuda_core.fwd(*arguments)[0].shape == u.shape  # for the model, which holds the module
        assert selective_scan_cuda_core.__loader__ is selective_scan_cuda_core.__spec__.loader
        assert isinstance(selective_scan_cuda_core.__loader__, importlib.machinery.SourceFileLoader)

    def test_one_imported_before_the_block_as_well(self, install):
        install("selective_scan_cuda_core.py", self.WORKING)
        selective_scan_cuda_core = importlib.import_module("selective_scan_cuda_core")
        theirs = selective_scan_cuda_core.fwd
        with vimdeploy.compat.mamba():
            assert selective_scan_cuda_core.fwd is not theirs
            assert importlib.import_module("selective_scan_cuda_core") is selective_scan_cuda_core
        assert selective_scan_cuda_core.fwd is theirs


class TestInstalledPackages:
    def test_causal_conv1d_is_hidden_and_comes_back(self, install):
        install("causal_conv1d/cpp_functions.py", "causal_conv1d_fwd_function = 'theirs'")
        theirs = importlib.import_module("causal_conv1d.cpp_functions")
        package = sys.modules["causal_conv1d"]
        with vimdeploy.compat.mamba():
            import causal_conv1d.cpp_functions

            assert causal_conv1d.cpp_functions is not theirs
        assert sys.modules["causal_conv1d"] is package
        assert sys.modules["causal_conv1d.cpp_functions"] is theirs
        assert theirs.causal_conv1d_fwd_function == "theirs"

    def test_a_mamba_ssm_that_works_is_kept(self, install):
        """Pure Python files without the extension: they run, over the stand-ins of what they lack."""
        install("mamba_ssm/ops/triton/layer_norm.py", LAYER_NORM)
        install("mamba_ssm/ops/selective_scan_interface.py", INTERFACE)
        install("mamba_ssm/__init__.py", "from mamba_ssm.ops.selective_scan_interface import selective_scan_fn")
        with vimdeploy.compat.mamba():
            import mamba_ssm
            from mamba_ssm.ops.triton.layer_norm import other, rms_norm_fn
        assert sys.modules["mamba_ssm"] is mamba_ssm
        assert mamba_ssm.selective_scan_fn.__module__ == "mamba_ssm.ops.selective_scan_interface"
        u = torch.ones(1, 2, 3)
        arguments = u, u, -torch.ones(2, 1), torch.ones(1, 1, 1, 3), torch.ones(1, 1, 1, 3)
        assert mamba_ssm.selective_scan_fn(*arguments)[1].shape == (1, 2, 1)
        assert other() == "theirs"
        assert rms_norm_fn(u, torch.ones(3), None).shape == u.shape

    def test_one_imported_before_the_block_without_the_extension(self, install):
        install("mini/ops/triton/layer_norm.py", "def _layer_norm_fwd(x1): pass")
        install("mini/ops/selective_scan_interface.py", INTERFACE.replace("mamba_ssm", "mini"))
        module = importlib.import_module("mini.ops.selective_scan_interface")
        u, b = torch.ones(1, 2, 3), torch.ones(1, 1, 1, 3)
        with vimdeploy.compat.mamba():
            assert module.selective_scan_fn(u, u, -torch.ones(2, 1), b, b)[0].shape == u.shape
        with pytest.raises(RuntimeError, match="not installed"):
            module.selective_scan_fn(u, u, -torch.ones(2, 1), b, b)

    def test_a_fork_under_another_name(self, install):
        install("mini/mamba_ssm/ops/triton/layernorm.py", LAYER_NORM.replace("x1=None, ", ""))
        with vimdeploy.compat.mamba():
            from mini.mamba_ssm.ops.triton.layernorm import _layer_norm_fwd, rms_norm_fn
        y, mean, rstd, total = _layer_norm_fwd(torch.ones(2, 3), torch.ones(3), None, 1e-6, is_rms_norm=True)
        torch.testing.assert_close(y, torch.ones(2, 3))
        assert (mean, rstd, total.shape) == (None, None, (2, 3))
        assert rms_norm_fn(torch.ones(2, 3), torch.ones(3), None).shape == (2, 3)

    def test_a_name_that_the_installed_release_lacks(self, install):
        install("mamba_ssm/ops/triton/layer_norm.py", LAYER_NORM)
        with vimdeploy.compat.mamba():
            from mamba_ssm.ops.triton.layernorm import RMSNorm
        assert isinstance(RMSNorm(3), torch.nn.Module)

    def test_modules_that_compute_nothing_for_vision_may_fail(self, install):
        install("mamba_ssm/ops/triton/layer_norm.py", LAYER_NORM)
        install("mamba_ssm/utils/generation.py", "from no_such_package import GreedySearchDecoderOnlyOutput")
        with vimdeploy.compat.mamba():
            from mamba_ssm.utils.generation import GenerationMixin
        assert isinstance(GenerationMixin, type)
        assert "mamba_ssm.utils.generation" not in sys.modules
        assert sys.modules["mamba_ssm"].__file__

    def test_modules_that_compute_may_not(self, install):
        """Another's code is not exchanged for ours because a package is missing: the model's owner is to install it."""
        install("mamba_ssm/ops/triton/layer_norm.py", LAYER_NORM)
        install("mamba_ssm/modules/mamba_simple.py", "import no_such_package")
        with vimdeploy.compat.mamba(), pytest.raises(ModuleNotFoundError, match="no_such_package"):
            importlib.import_module("mamba_ssm.modules.mamba_simple")

    def test_another_package_of_the_name_is_not_it(self, install):
        install("mamba_ssm/ops/selective_scan_interface.py", "selective_scan_fn = 'a loop'")
        with vimdeploy.compat.mamba():
            from mamba_ssm.ops.selective_scan_interface import mamba_inner_fn_no_out_proj, selective_scan_fn
        assert selective_scan_fn != "a loop"
        assert callable(mamba_inner_fn_no_out_proj)

    def test_a_folder_of_the_name_is_not_it(self, tmp_path, monkeypatch):
        (tmp_path / "selective_scan").mkdir()
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend("")
        with vimdeploy.compat.mamba():
            from selective_scan import selective_scan_fn
        assert callable(selective_scan_fn)

    def test_the_scan_of_transformers_is_one_node(self, install):
        """Its own is a loop over the tokens wherever there is no kernel, and in every export."""
        install(
            "transformers/models/mamba/modeling_mamba.py", "def mamba_selective_scan(*arguments, **options): raise 1"
        )
        with vimdeploy.compat.mamba():
            from transformers.models.mamba.modeling_mamba import mamba_selective_scan
        u, b = torch.ones(1, 2, 3), torch.ones(1, 1, 3)
        y = mamba_selective_scan(u, u, -torch.ones(2, 1), b, b, delta_softplus=True, use_associative_scan=True)
        torch.testing.assert_close(y, selective_scan_fn(u, u, -torch.ones(2, 1), b, b, delta_softplus=True))

    def test_norms_imported_before_the_block_answer_within_it(self, install):
        install("mini/ops/triton/layer_norm.py", LAYER_NORM[LAYER_NORM.index("def _layer_norm_fwd") :])
        module = importlib.import_module("mini.ops.triton.layer_norm")
        theirs = module._layer_norm_fwd
        with vimdeploy.compat.mamba():
            y, *_ = module._layer_norm_fwd(torch.ones(2, 3), torch.ones(3), None, 1e-6, is_rms_norm=True)
        torch.testing.assert_close(y, torch.ones(2, 3))
        assert module._layer_norm_fwd is theirs


LAYER_NORM = """
import triton
import triton.language as tl

@triton.jit
def kernel(x, SIZE: "tl.constexpr"): pass

def _layer_norm_fwd(x, weight, bias, eps, residual=None, x1=None, out_dtype=None, is_rms_norm=False):
    return kernel[(1,)](x, 3)

def rms_norm_fn(*arguments): return kernel[(1,)](*arguments)
def other(): return "theirs"
"""
INTERFACE = """
from mamba_ssm.ops.triton.layer_norm import _layer_norm_fwd

try:
    import selective_scan_cuda
except ImportError:
    selective_scan_cuda = None

def selective_scan_fn(u, delta, A, B, C):
    if selective_scan_cuda is None:
        raise RuntimeError("selective_scan_cuda is not installed.")
    out, x, *rest = selective_scan_cuda.fwd(u, delta, A, B, C, None, None, None, False)
    return out, x[:, :, -1, 1::2]
"""


class TestRefusals:
    def test_without_pytorch(self, monkeypatch):
        for name in [name for name in sys.modules if name.startswith("vimdeploy.compat")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(MissingPackageError, match=r"pip install '.*\[export\]'"):
            importlib.import_module("vimdeploy.compat")

    @pytest.mark.parametrize("name", EXTENSIONS)
    def test_backward(self, name):
        with vimdeploy.compat.mamba():
            module = importlib.import_module(name)
        function = "causal_conv1d_bwd" if name == "causal_conv1d_cuda" else "bwd"
        with pytest.raises(ConfigError) as caught:
            getattr(module, function)(1, 2)
        assert str(caught.value) == (
            f"The model uses {name}.{function}: vimdeploy stands in for this extension, and only its forward pass; "
            "train where the extension itself works."
        )

    def test_a_scan_without_states(self):
        with vimdeploy.compat.mamba():
            import selective_scan_cuda_ndstate
        with pytest.raises(ConfigError) as caught:
            selective_scan_cuda_ndstate.fwd()
        assert str(caught.value) == (
            "The model uses selective_scan_cuda_ndstate.fwd: vimdeploy has no scan without an axis of states."
        )

    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("mamba_ssm", "Mamba2"),
            ("mamba_ssm", "Mamba3"),
            ("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined"),
            ("mamba_ssm.ops.triton.ssd_combined", "mamba_split_conv1d_scan_combined"),
        ],
    )
    def test_mamba_2(self, module, name):
        with vimdeploy.compat.mamba():
            thing = getattr(importlib.import_module(module), name)
        with pytest.raises(ConfigError) as caught:
            thing(d_model=3)
        assert str(caught.value) == (
            f"The model uses {name}: "
            "vimdeploy runs the selective scan of Mamba-1 and no operator of Mamba-2 or Mamba-3."
        )

    def test_counting_operations(self):
        with vimdeploy.compat.mamba():
            from fvcore.nn import flop_count
        with pytest.raises(ConfigError, match=r"fvcore is not installed: pip install fvcore\.$"):
            flop_count(None)

    def test_downloads(self):
        with vimdeploy.compat.mamba():
            from mamba_ssm.utils.hf import load_state_dict_hf
        with pytest.raises(ConfigError, match="downloads nothing"):
            load_state_dict_hf("state-spaces/mamba-130m")
