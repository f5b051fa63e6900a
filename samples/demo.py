"""The main job on real photographs, command by command: what ``make demo`` runs.

A trained model of clothes goes from its checkpoint to ONNX, is proved to answer as in PyTorch, and says what it sees.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

import vimdeploy

ROOT = Path(__file__).resolve().parent.parent
OUT = Path("demo")  # seen from ROOT
FASHION = Path("samples", "fashion")
PHOTOGRAPHS = 200
"""Pictures, of 2000: the proof looks at each of them, at every stage of the network."""
SHOWN = ("ankle boot/0000", "trousers/0002", "pullover/0001", "dress/0013", "sneaker/0009")
SIDE = 24
"""Characters across a drawn photograph: three of them stand side by side in 80 columns."""
SHADES = " .:-=+*#%@"
"""For output without colours."""


def main(photographs: int = PHOTOGRAPHS) -> None:
    """Run every step, then show photographs with the model's answers, and what comes next."""
    shutil.rmtree(ROOT / OUT, ignore_errors=True)
    (ROOT / OUT).mkdir()
    pictures, model, checkpoint = OUT / "pictures", OUT / "fashion.onnx", FASHION / "fashion.safetensors"
    run(sys.executable, FASHION / "pictures.py", pictures, "test", photographs)
    run("vimdeploy", "export", FASHION / "fashion.json", "-c", checkpoint, "-o", model)
    run("vimdeploy", "verify", model, "-c", checkpoint, "--images", pictures, "--report", OUT / "proof.html")
    show([pictures / f"{name}.png" for name in SHOWN], model)


def run(program: str, *words: object) -> None:
    """Show a command, and the first line that it prints beside its progress; the demo ends if it fails."""
    arguments = [str(word) for word in words]
    print(f"\n$ {shlex.join([Path(program).name, *arguments])}", flush=True)
    command = [sys.executable, "-m", "vimdeploy"] if program == "vimdeploy" else [program]
    done = subprocess.run([*command, *arguments], cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{Path(program).name} ended with exit code {done.returncode}.")
    print(done.stdout.partition("\n")[0], flush=True)


def show(paths: list[Path], model: Path) -> None:
    """Draw as many photographs as fit, with the model's answers, and name what can be done next."""
    console = Console(highlight=False)
    fitting = paths[: max(1, console.width // (SIDE + 2))]
    console.print(f'\n>>> vimdeploy.load("{model}").predict(photographs)\n')
    with vimdeploy.load(ROOT / model) as session:
        answers = [session.predict(ROOT / path).document()["top"][0] for path in fitting]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_row(*(drawn(photograph(ROOT / path), console.color_system is not None) for path in fitting))
    table.add_row(*(f"{answer['label']}, {answer['probability']:.1%}" for answer in answers))
    console.print(table)
    console.print(
        f"\nThe proof, a page for a browser: {OUT / 'proof.html'}\n"
        "Next, the released weights of Vision Mamba, and a picture of yours:\n"
        f"$ {vimdeploy_here()} export vim_tiny --pretrained -o vim_tiny.onnx\n"
        f"$ {vimdeploy_here()} run vim_tiny.onnx PICTURE",
        soft_wrap=True,
    )


def vimdeploy_here() -> Path:
    """The command as it is to be typed in the current folder."""
    command = Path(sys.executable).with_name("vimdeploy")
    return command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else command


def photograph(path: Path) -> npt.NDArray[np.uint8]:
    """A photograph (SIDE, SIDE) in grey."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((SIDE, SIDE)))


def drawn(grey: npt.NDArray[np.uint8], in_colours: bool) -> Text:
    """A photograph in characters, each of which stands for two pixels, one above the other."""
    text = Text()
    for above, below in zip(grey[::2], grey[1::2], strict=True):
        for upper, lower in zip(above.tolist(), below.tolist(), strict=True):
            if in_colours:
                text.append("▀", f"rgb({upper},{upper},{upper}) on rgb({lower},{lower},{lower})")
            else:
                text.append(SHADES[(upper + lower) * len(SHADES) // 512])
        text.append("\n")
    text.right_crop(1)
    return text


if __name__ == "__main__":
    main()
