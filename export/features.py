"""The backbone of a Vim from a classifier's, mmsegmentation's or detectron2's checkpoint to ONNX, at every image size.

python export/features.py vim_tiny upernet_vim_tiny.pth features.onnx 5,11,17,23
"""

import sys

import numpy as np

import vimdeploy


def main(variant: str, checkpoint: str, onnx_path: str, blocks: str = "") -> None:
    """Checkpoint -> ONNX file of any image size, then the maps of two pictures of different size."""
    numbers = [int(number) for number in blocks.split(",") if number]
    made = vimdeploy.export(
        variant, onnx_path, checkpoint=checkpoint, task="features", blocks=numbers, image_size="dynamic"
    )
    print(f"{made.artifact!r}; {len(made.passed_over)} tensors of heads were passed over")
    with vimdeploy.load(onnx_path) as session:
        for height, width in ((224, 224), (320, 512)):
            print(session.predict(np.full((height, width, 3), 128, dtype=np.uint8)))


if __name__ == "__main__":
    main(*sys.argv[1:])
