#!/usr/bin/env bash
# transformers' EoMT processor pads images to a square, and takes the padding away again in its
# panoptic and instance post-processing, but not in `post_process_semantic_segmentation`: there the
# padded square is stretched over the image, so that its labels lie at other places than their things.
#
# Seen: transformers 5.24.0, torch 2.13.0. An image of 640x320 (width x height) is padded to 640x640.
# What a network says of it is made by hand: class 0 on all of the image, class 1 on the padding
# below. The semantic map of the image should be class 0 everywhere; its lower half is class 1. The
# panoptic one has a single segment over the whole image.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q install "transformers==5.24.0" "torch==2.13.0" pillow numpy
cat > "$work/padded.py" <<'P'
import sys
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from transformers.models.eomt.image_processing_pil_eomt import EomtImageProcessorPil

processor = EomtImageProcessorPil(
    size={"shortest_edge": 640, "longest_edge": 640}, do_split_image=False, do_pad=True
)
image = Image.fromarray(np.full((320, 640, 3), 128, np.uint8))
pixels = processor(images=[image], return_tensors="pt")["pixel_values"]
masks = torch.full((1, 2, 160, 160), -20.0)
masks[0, 0, :80] = 20.0  # the image
masks[0, 1, 80:] = 20.0  # the padding below it
classes = torch.tensor([[[20.0, 0.0, 0.0], [0.0, 20.0, 0.0]]])
said = SimpleNamespace(masks_queries_logits=masks, class_queries_logits=classes, patch_offsets=None)
(semantic,) = processor.post_process_semantic_segmentation(said, target_sizes=[(320, 640)])
(panoptic,) = processor.post_process_panoptic_segmentation(said, target_sizes=[(320, 640)])
lower = float((semantic[160:] == 1).float().mean())
segments = torch.unique(panoptic["segmentation"]).tolist()
print(f"the network's input is {tuple(pixels.shape)}")
print(f"semantic: {lower:.0%} of the image's lower half has the padding's class")
print(f"panoptic: segments {segments} over the whole image")
is_as_seen = tuple(pixels.shape[2:]) == (640, 640) and lower > 0.95 and len(segments) == 1
sys.exit(0 if is_as_seen else 1)
P
"$work/venv/bin/python" "$work/padded.py"
