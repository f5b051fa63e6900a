"""``find_package(vimdeploy)``: a C++ project finds what the Python package holds, is linked against it, and runs."""

import shutil
import subprocess

import pytest
from helpers.loading import ROOT

from vimdeploy.libraries import cmake_prefix, library_path


@pytest.mark.slow
def test_a_project_outside_is_linked_against_the_installed_package(tmp_path):
    if library_path("onnxruntime") is None:
        pytest.skip("the package was installed without its compiled operators")
    prefix = cmake_prefix()
    assert prefix, "the package has compiled operators, and nothing for CMake"
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake or c++ is not on PATH")
    project = shutil.copytree(ROOT / "tests/plugins/package", tmp_path / "outside")
    subprocess.run(["cmake", "-B", "build", f"-DCMAKE_PREFIX_PATH={prefix}"], cwd=project, check=True)
    subprocess.run(["cmake", "--build", "build"], cwd=project, check=True)
    done = subprocess.run([project / "build/outside"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "y is 22.000000\n"), done.stderr
