"""The main job on real pictures, command by command: what ``make demo`` runs.

A trained model of handwritten digits goes from its checkpoint to ONNX, is proved to answer as in PyTorch, and reads
pictures; then a full Vim-Ti (with untrained weights, for none are shipped) takes the same way.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = Path("demo")  # these are seen from ROOT
DIGITS = Path("samples", "digits")
VIMDEPLOY = str(Path(sys.executable).with_name("vimdeploy"))


def main() -> None:
    """Run every step, then say what was done and how long it took."""
    shutil.rmtree(ROOT / OUT, ignore_errors=True)
    (ROOT / OUT).mkdir()
    pictures = OUT / "pictures"
    some = [pictures / name for name in ("3/12.png", "7/06.png", "9/39.png")]
    steps = [
        ("write the held-out pictures", [sys.executable, DIGITS / "data.py", pictures]),
        (
            "export the digits model",
            [
                VIMDEPLOY,
                "export",
                DIGITS / "digits.json",
                "-c",
                DIGITS / "digits.safetensors",
                "-o",
                OUT / "digits.onnx",
            ],
        ),
        (
            "verify it on 450 pictures",
            [VIMDEPLOY, "verify", OUT / "digits.onnx", "-c", DIGITS / "digits.safetensors", "--images", pictures],
        ),
        ("classify pictures", [VIMDEPLOY, "run", OUT / "digits.onnx", *some, "--top", "2"]),
        (
            "export Vim-Ti",
            [VIMDEPLOY, "export", "vim_tiny_patch16_224", "--random-weights", "0", "-o", OUT / "vim_tiny.onnx"],
        ),
        ("verify it", [VIMDEPLOY, "verify", OUT / "vim_tiny.onnx", "--count", "4"]),
        ("look at the file", [VIMDEPLOY, "inspect", OUT / "vim_tiny.onnx"]),
    ]
    seconds = [run([str(word) for word in command]) for _, command in steps]
    print("\nwhat was done                  seconds")
    for (title, _), duration in zip(steps, seconds, strict=True):
        print(f"{title:30} {duration:7.1f}")


def run(command: list[str]) -> float:
    """Show a command, run it, and return how many seconds it took; the demo ends if it fails."""
    print(f"\n$ {shlex.join([Path(command[0]).name, *command[1:]])}", flush=True)
    start = time.perf_counter()
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code:
        sys.exit(code)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
