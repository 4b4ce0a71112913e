#!/usr/bin/env bash
# Image processors of transformers come in two kinds, one on torchvision (taken where that is
# installed) and one on Pillow. Where a centre crop is larger than the image by an odd number of
# pixels, the two put the border a pixel apart, so the same folder gives other pixels, and labels that
# are shifted by one, on a machine without torchvision. DPT's Pillow kind ignores the crop altogether.
#
# Seen: transformers 5.24.0, torchvision 0.29.1, a 5x5 image cropped to 8x8: the image begins at row
# and column 1 with BeitImageProcessor and at 2 with BeitImageProcessorPil; an 8x8 image cropped to 4x4
# by DPTImageProcessor is 4x4, by DPTImageProcessorPil 8x8.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q install "transformers==5.24.0" "torch==2.14.1" "torchvision==0.29.1" pillow numpy
"$work/venv/bin/python" - <<'P'
import sys
import numpy as np
from transformers import BeitImageProcessor, BeitImageProcessorPil
from transformers import DPTImageProcessor, DPTImageProcessorPil

plain = {"do_resize": False, "do_rescale": False, "do_normalize": False, "do_center_crop": True}


def prepared(kind, side, crop):
    image = np.full((side, side, 3), 200, np.uint8)
    made = kind(**plain, crop_size={"height": crop, "width": crop})
    return made(image, return_tensors="np")["pixel_values"][0, 0]


first = {}
for kind in (BeitImageProcessor, BeitImageProcessorPil):
    first[kind.__name__] = np.argwhere(prepared(kind, 5, 8) > 0).min(axis=0).tolist()
    print(f"{kind.__name__:24} 5x5 to 8x8: the image begins at {first[kind.__name__]}")
shape = {}
for kind in (DPTImageProcessor, DPTImageProcessorPil):
    shape[kind.__name__] = prepared(kind, 8, 4).shape
    print(f"{kind.__name__:24} 8x8 to 4x4: {shape[kind.__name__]}")
wanted = [[1, 1], [2, 2]], [(4, 4), (8, 8)]
sys.exit(0 if (list(first.values()), list(shape.values())) == wanted else 1)
P
