#!/usr/bin/env bash
# PyTorch's F.interpolate with antialias=True resizes to one column wrongly on a CPU: every row of the
# result is the first one, whatever the width of the image. No error, no warning.
#
# Seen: torch 2.13.0 and 2.14.1 (CPU), 1x1x8x1 holding 0..7 to 4x1, bilinear: 0.71 four times, where
# the same numbers as two columns, as one row, or in channels_last give 0.71, 2.5, 4.5, 6.29; two
# equal columns to one column: 0.71 four times, again. Bicubic does the same; without antialias all
# is well.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q install "torch==2.13.0" numpy
"$work/venv/bin/python" - <<'P'
import sys
import torch
import torch.nn.functional as F


def halved(image, size, **options):
    found = F.interpolate(image, size, mode="bilinear", **options)
    return [round(value, 2) for value in found[0, 0].reshape(-1).tolist()]


column = torch.arange(8.0).reshape(1, 1, 8, 1)
alone = halved(column, (4, 1), antialias=True)
row = halved(column.transpose(2, 3).contiguous(), (1, 4), antialias=True)
pair = halved(column.repeat(1, 1, 1, 2), (4, 2), antialias=True)[::2]
merged = halved(column.repeat(1, 1, 1, 2), (4, 1), antialias=True)
plain = halved(column, (4, 1))
print(f"one column {alone}\none row    {row}\ntwo        {pair}")
print(f"two to one {merged}\nno filter  {plain}")
right = row == pair == [0.71, 2.5, 4.5, 6.29] and plain == [0.5, 2.5, 4.5, 6.5]
sys.exit(0 if right and alone == merged == [0.71] * 4 else 1)
P
