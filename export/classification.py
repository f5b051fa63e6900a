"""A Vim classifier from its checkpoint to ONNX, proved and tried: what the commands do, to copy and change.

python export/classification.py vim_tiny vim_t_midclstok_76p1acc.pth vim_tiny.onnx [fp16 or bf16]
"""

import sys

import numpy as np

import vimdeploy


def main(variant: str, checkpoint: str, onnx_path: str, precision: str = "fp32") -> None:
    """Checkpoint -> ONNX file, the proof that it answers as PyTorch does, and an answer."""
    vimdeploy.export(variant, onnx_path, checkpoint=checkpoint, precision=precision)
    for result in vimdeploy.verify(onnx_path, checkpoint=checkpoint, count=2):
        print(f"{result.candidate.description}: largest error {result.worst.relative:.1e} standard deviations")
    with vimdeploy.load(onnx_path) as session:
        grey = np.full((224, 224, 3), 128, dtype=np.uint8)  # a picture: a path, a PIL image or an array
        print(session, session.predict(grey), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
