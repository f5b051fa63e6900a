"""Cascade Mask R-CNN on a Vim from detectron2's checkpoint to ONNX, and the objects in a picture.

python export/detect.py vim_tiny cascade_mask_rcnn_vim_tiny.pth detect.onnx
"""

import sys

import numpy as np
from PIL import Image

import vimdeploy


def main(variant: str, checkpoint: str, onnx_path: str) -> None:
    """Checkpoint -> ONNX file, then the objects in a picture and their masks."""
    made = vimdeploy.export(variant, onnx_path, checkpoint=checkpoint, task="detect")
    print(f"{made.artifact!r}; {len(made.passed_over)} tensors were passed over")
    with vimdeploy.load(onnx_path) as session:
        picture = Image.fromarray(np.tile(np.linspace(0, 255, 384, dtype=np.uint8), (256, 1))).convert("RGB")
        found = session.predict(picture, score_threshold=0.3, max_detections=20)
        print(found, f"boxes {found.arrays()['boxes'].shape}, in the picture's pixels", sep="\n")
        drawn = found.picture(picture)  # boxes, masks and names over the picture
        if drawn is not None:
            drawn.save(f"{onnx_path}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
