"""The backbone and the neck of an mmsegmentation or a detectron2 checkpoint to ONNX: maps of several resolutions.

python export/pyramid.py vim_tiny upernet_vim_tiny.pth pyramid.onnx
"""

import sys

import numpy as np

import vimdeploy


def main(variant: str, checkpoint: str, onnx_path: str) -> None:
    """Checkpoint -> ONNX file of any image size, then the levels of a picture that is not square."""
    made = vimdeploy.export(variant, onnx_path, checkpoint=checkpoint, task="pyramid", image_size="dynamic")
    print(f"{made.artifact!r}; {len(made.passed_over)} tensors of heads were passed over")
    with vimdeploy.load(onnx_path) as session:
        print(session.predict(np.full((320, 512, 3), 128, dtype=np.uint8)))


if __name__ == "__main__":
    main(*sys.argv[1:])
