"""Machine code: what nvcc makes of the kernels' source, and its instructions and blocks as nvdisasm prints them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

_FUNCTION = re.compile(r"\.text\.(\w+):")
_LABEL = re.compile(r"(\.L_\w+):")
_INSTRUCTION = re.compile(
    r"\s+/\*[0-9a-f]+\*/\s+\{?\s*(?P<guard>@\S+\s+)?(?P<opcode>[A-Z][\w.]*)\s*(?P<operands>[^;}]*)"
)
_TARGET = re.compile(r"`\((\.L_\w+)\)")
_REPORTED = re.compile(r"Compiling entry function '(\w+)'")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")


class ToolMissingError(Exception):
    """nvcc or nvdisasm was not found."""


@dataclass(frozen=True)
class Instruction:
    """A warp issues it also if its guard leaves it out for all of the warp's threads."""

    opcode: str
    operands: str
    is_guarded: bool

    @property
    def name(self) -> str:
        """The opcode without its modifiers."""
        return self.opcode.partition(".")[0]

    @property
    def bits(self) -> int:
        """Bits of each thread's number, if the instruction accesses memory."""
        for part in self.opcode.split(".")[1:]:
            if part in ("128", "64", "U16", "S16", "16", "U8", "S8"):
                return int(part.lstrip("US"))
        return 32


@dataclass
class Block:
    """Instructions that follow one another; a jump, an exit or a barrier only at the end."""

    instructions: list[Instruction] = field(default_factory=list)
    successors: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel, and what ptxas reported of it."""

    symbol: str
    """The mangled name."""
    registers: int
    spill_bytes: int
    blocks: Sequence[Block]


def find_nvdisasm() -> str:
    """CUDA's disassembler: on PATH, beside nvcc, or of the package nvidia-cuda-nvdisasm.

    Raises:
        ToolMissingError: if there is none.
    """
    nvcc = shutil.which("nvcc")
    beside = Path(nvcc).resolve().parent if nvcc else None
    for folders in (os.environ.get("PATH", ""), str(beside or ""), "/usr/local/cuda/bin", *_packages()):
        if found := shutil.which("nvdisasm", path=folders):
            return found
    raise ToolMissingError("nvdisasm was not found; install CUDA's toolkit, or the package nvidia-cuda-nvdisasm.")


def find_nvcc() -> str:
    """CUDA's compiler.

    Raises:
        ToolMissingError: if there is none.
    """
    found = shutil.which("nvcc", path=f"{os.environ.get('PATH', '')}:/usr/local/cuda/bin")
    if found is None:
        raise ToolMissingError("nvcc was not found; install CUDA's toolkit, 12 or newer.")
    return found


def _packages() -> Iterator[str]:
    try:
        files = metadata.files("nvidia-cuda-nvdisasm") or []
    except metadata.PackageNotFoundError:
        return
    yield from (str(Path(str(file.locate())).parent) for file in files if file.name == "nvdisasm")


def compile_kernels(plugins: Path, sources: Sequence[Path], architecture: int) -> Iterator[Kernel]:
    """The kernels in these sources.

    Args:
        plugins: the folder that the sources' includes begin at.
        architecture: such as 90.

    Raises:
        ToolMissingError: if nvcc or nvdisasm is not found.
        subprocess.CalledProcessError: if one of them fails.
    """
    nvcc, nvdisasm = find_nvcc(), find_nvdisasm()
    with tempfile.TemporaryDirectory() as folder:
        for source in sources:
            cubin = Path(folder) / "kernels.cubin"
            options = ["-std=c++17", "-cubin", f"-arch=sm_{architecture}", "-Xptxas=-v", f"-I{plugins}"]
            report = _run([nvcc, *options, "-o", str(cubin), str(source)]).stderr
            functions = functions_of(_run([nvdisasm, "--print-code", str(cubin)]).stdout)
            for symbol, (registers, spill_bytes) in _resources(report).items():
                yield Kernel(symbol, registers, spill_bytes, functions[symbol])


def architectures() -> list[int]:
    """Those that nvcc knows, from Turing on.

    Raises:
        ToolMissingError: if there is no nvcc.
    """
    listed = _run([find_nvcc(), "--list-gpu-code"]).stdout
    return sorted(int(number) for number in re.findall(r"sm_(\d+)", listed))


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True)


def _resources(report: str) -> dict[str, tuple[int, int]]:
    """Registers and bytes of spills of each kernel."""
    resources: dict[str, tuple[int, int]] = {}
    symbol, spills = "", 0
    for line in report.splitlines():
        if match := _REPORTED.search(line):
            symbol = match[1]
        elif match := _SPILLS.search(line):
            spills = int(match[1]) + int(match[2])
        elif match := _REGISTERS.search(line):
            resources[symbol] = int(match[1]), spills
    return resources


def functions_of(disassembly: str) -> dict[str, list[Block]]:
    """The blocks of each function, by its mangled name.

    Args:
        disassembly: as ``nvdisasm --print-code`` prints it.
    """
    lines: dict[str, list[str]] = {}
    symbol = ""
    for line in disassembly.splitlines():
        if match := _FUNCTION.match(line):
            symbol = match[1]
        lines.setdefault(symbol, []).append(line)
    return {symbol: _blocks_of(body) for symbol, body in lines.items() if symbol}


def _blocks_of(lines: Sequence[str]) -> list[Block]:
    blocks, labels = [Block()], {}
    targets: dict[int, str] = {}
    falls_through = set()
    for line in lines:
        if match := _LABEL.match(line):
            if blocks[-1].instructions:
                falls_through.add(len(blocks) - 1)
                blocks.append(Block())
            labels[match[1]] = len(blocks) - 1
        elif match := _INSTRUCTION.match(line):
            instruction = Instruction(match["opcode"], match["operands"].strip(), match["guard"] is not None)
            blocks[-1].instructions.append(instruction)
            if instruction.name not in ("BRA", "EXIT", "BAR", "RET", "UCGABAR_WAIT"):
                continue
            if instruction.name == "BRA":
                targets[len(blocks) - 1] = _TARGET.search(instruction.operands)[1]  # type: ignore[index]
            is_always = instruction.name != "BAR" and not instruction.is_guarded
            if not is_always or (instruction.name == "BRA" and not instruction.operands.startswith("`")):
                falls_through.add(len(blocks) - 1)
            blocks.append(Block())
    for index, block in enumerate(blocks):
        if index in falls_through and index + 1 < len(blocks):
            block.successors.append(index + 1)
        if index in targets:
            block.successors.append(labels[targets[index]])
    return blocks
