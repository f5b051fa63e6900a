"""UperNet on a Vim from mmsegmentation's checkpoint to ONNX, and the mask of a picture.

python export/segment.py vim_tiny upernet_vim_tiny.pth segment.onnx
"""

import sys

import numpy as np
from PIL import Image

import vimdeploy


def main(variant: str, checkpoint: str, onnx_path: str) -> None:
    """Checkpoint -> ONNX file of any image size, then the largest classes of a picture and its mask."""
    made = vimdeploy.export(variant, onnx_path, checkpoint=checkpoint, task="segment", image_size="dynamic")
    print(f"{made.artifact!r}; {len(made.passed_over)} tensors were passed over")
    with vimdeploy.load(onnx_path) as session:
        picture = Image.fromarray(np.tile(np.linspace(0, 255, 384, dtype=np.uint8), (256, 1))).convert("RGB")
        mask = session.predict(picture)
        print(mask, f"a mask of {mask.arrays()['classes'].shape}", sep="\n")
        drawn = mask.picture(picture)  # in colours over the picture, with a legend
        if drawn is not None:
            drawn.save(f"{onnx_path}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
