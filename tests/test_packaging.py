"""What a package index, pip and the public host are given: metadata, the wheel's libraries, workflows, forms."""

import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from helpers.loading import ROOT

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = [path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]


def text_of(*globs):
    """(path, text) of the text files of the repository that these globs name."""
    paths = sorted({path for pattern in globs for path in ROOT.glob(pattern) if path.is_file()})
    return [(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in paths]


class TestIndexPage:
    """README as a package index shows it: the substitutions of pyproject, applied as the build applies them."""

    @pytest.fixture
    def page(self):
        page = (ROOT / "README.md").read_text(encoding="utf-8")
        for rule in PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
            page = re.sub(rule["pattern"], rule["replacement"], page)
        return page

    @pytest.fixture
    def links(self, page):
        outside_code = re.sub(r"(?ms)^```.*?^```$", "", page)
        return [a or b for a, b in re.findall(r'\]\(([^)\s]+)[^)]*\)|(?:src|href)="([^"]+)"', outside_code)]

    def test_every_link_is_absolute_or_of_the_page(self, links):
        assert [link for link in links if not link.startswith(("https://", "#"))] == []

    def test_what_is_linked_in_the_repository_is_there(self, links):
        raw = REPOSITORY.replace("github.com", "raw.githubusercontent.com")
        own = [link for link in links if link.startswith((f"{REPOSITORY}/blob/", f"{raw}/"))]
        paths = {link.split("/HEAD/")[1].partition("#")[0] for link in own}
        assert len(paths) > 5
        assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []

    def test_pictures_are_linked_as_files_not_as_pages(self, page):
        pictures = re.findall(r'!\[[^\]]*\]\(([^)]+)\)|<img [^>]*src="([^"]+)"', page)
        assert pictures
        assert [picture for picture in pictures if "".join(picture).startswith("https://github.com/")] == []


class TestMetadata:
    def test_the_changelog_begins_with_this_version(self):
        heading = re.search(r"(?m)^## (\S+) \((unreleased|\d{4}-\d{2}-\d{2})\)$", (ROOT / "CHANGELOG.md").read_text())
        assert heading, "CHANGELOG.md has no heading such as '## 0.1.0 (unreleased)' or '## 0.1.0 (2026-01-31)'"
        assert heading[1] == PROJECT["version"]

    def test_one_address_of_the_repository(self):
        pages = text_of("*.md", "*.toml", "docs/**/*.md", "docs/**/*.yml", ".github/**/*", "vimdeploy/**/*.py")
        found = {
            (path, url) for path, text in pages for url in re.findall(r"https://github\.com/[\w-]*/vimdeploy\b", text)
        }
        assert {url for _, url in found} == {REPOSITORY}, found

    def test_no_extra_lays_two_onnx_runtimes_over_each_other(self):
        """Only cpu and gpu name one; pip cannot take a dependency away, so none is needed by all."""
        naming = {
            extra
            for extra, needed in {**PROJECT["optional-dependencies"], "": PROJECT["dependencies"]}.items()
            if any(need.startswith("onnxruntime") for need in needed)
        }
        assert naming == {"cpu", "gpu"}

    def test_pythons_that_are_named_are_those_that_are_checked(self):
        yaml = pytest.importorskip("yaml", reason="reads workflows: pip install '.[dev]'")
        named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
        check = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text())
        assert check["jobs"]["check"]["strategy"]["matrix"]["python"] == named
        assert PROJECT["requires-python"] == f">={named[0]}"


class TestWorkflows:
    @pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
    def workflow(self, request):
        yaml = pytest.importorskip("yaml", reason="reads workflows: pip install '.[dev]'")
        return yaml.safe_load(request.param.read_text())

    @pytest.fixture
    def steps(self, workflow):
        return [step for job in workflow["jobs"].values() for step in job["steps"]]

    def test_may_only_read_unless_a_job_asks_for_more(self, workflow):
        assert workflow["permissions"] == {"contents": "read"}
        asking = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
        assert asking in ({}, {"publish": {"id-token": "write"}})

    def test_only_a_tag_publishes(self, workflow):
        publishing = {name for name, job in workflow["jobs"].items() if "publish" in str(job["steps"])}
        assert publishing <= {"publish"}
        for name in publishing:
            assert workflow["jobs"][name]["if"] == "startsWith(github.ref, 'refs/tags/v')"

    def test_what_it_runs_is_in_the_repository(self, steps):
        commands = "\n".join(step["run"] for step in steps if "run" in step)
        targets = set(re.findall(r"(?m)^(\w[\w-]*):", (ROOT / "Makefile").read_text()))
        assert set(re.findall(r"\bmake (\w\S*)", commands)) <= targets
        for path in re.findall(r"\b(?:tools|tests|samples|export)/[\w/.*-]+", commands):
            assert list(ROOT.glob(path)), path

    def test_jobs_wait_for_jobs_that_exist(self, workflow):
        for job in workflow["jobs"].values():
            needed = job.get("needs", [])
            assert set([needed] if isinstance(needed, str) else needed) <= set(workflow["jobs"])

    def test_wheels_are_tried_by_a_script_that_exists(self):
        command = PYPROJECT["tool"]["cibuildwheel"]["test-command"]
        assert all((ROOT / path).exists() for path in re.findall(r"\{project\}/(tools/\w+)", command))


@pytest.mark.parametrize(
    ("schema", "files"),
    [("github-workflows", WORKFLOWS), ("github-issue-forms", [f for f in FORMS if f.stem == "bug"])],
)
def test_the_host_understands_the_form(schema, files):
    """By the schema that its makers publish, as check-jsonschema has it; nothing is fetched."""
    pytest.importorskip("check_jsonschema", reason="has the schemas: pip install '.[dev]'")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_the_bug_form_asks_for_the_doctor():
    assert "label: vimdeploy doctor --json" in (ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text()


def is_made_by_pip(line):
    """Whether a line of RECORD tells a file that was not in the wheel: the command, compiled modules."""
    return line.startswith("..") or "__pycache__" in line


class TestInstalled:
    """The package as it was installed here, put together as a wheel again."""

    @pytest.fixture
    def distribution(self):
        return metadata.distribution("vimdeploy")

    @pytest.fixture
    def wheel(self, distribution, tmp_path):
        tags = re.findall(r"(?m)^Tag: (\S+)$", distribution.read_text("WHEEL"))
        assert len(tags) == 1
        assert tags[0].startswith("py3-none-")
        path = tmp_path / f"vimdeploy-{distribution.version}-{tags[0]}.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for file in distribution.files:
                if file.name != "RECORD" and not is_made_by_pip(str(file)):
                    archive.write(distribution.locate_file(file), str(file))
            lines = distribution.read_text("RECORD").splitlines()
            (folder,) = {file.parent for file in distribution.files if file.name == "RECORD"}
            archive.writestr(f"{folder}/RECORD", "\n".join(line for line in lines if not is_made_by_pip(line)))
        return path

    def test_has_the_licences_of_what_is_inside(self, distribution):
        licences = {Path(file).name: file.read_text() for file in distribution.files if "licenses" in file.parts}
        assert set(licences) == {"LICENSE", "THIRD_PARTY.txt"}
        for name in ("Highway", "ONNX Runtime", "TensorRT", "CUDA's runtime", "WordNet"):
            assert f"\n{name} (" in licences["THIRD_PARTY.txt"]

    def test_has_types(self, distribution):
        assert any(str(file) == "vimdeploy/py.typed" for file in distribution.files)

    def test_has_what_cmake_finds(self, distribution):
        files = set(map(str, distribution.files))
        assert {"vimdeploy/include/vimdeploy.h", "vimdeploy/lib/cmake/vimdeploy/vimdeployConfig.cmake"} <= files

    @pytest.mark.skipif(sys.platform != "linux", reason="auditwheel knows Linux alone")
    def test_auditwheel_finds_nothing_but_the_system_libraries(self, wheel):
        """So none has to come along. How old a glibc may be, the building machine decides: see RELEASE.md."""
        pytest.importorskip("auditwheel", reason="auditwheel is not installed: pip install '.[dev]'")
        command = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert re.search(r'platform\s+tag:\s+"manylinux_2_\d+_', said), said
