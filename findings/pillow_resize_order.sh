#!/usr/bin/env bash
# Pillow 13.0 resizes some shapes down the columns first, where every version before went along the
# rows first. It works in bytes and rounds in between, so the same call gives other pixels.
#
# Seen: Pillow 12.1.1 and 13.0.0, bicubic, 160x160 pixels of black and white noise (width x height).
# To 120x40: up to 15 grey levels apart, 83 % of the pixels differ; to 40x120: none. What overshoots
# 0..255 is cut off after the first axis, so the order shows; elsewhere it is a level at most. A
# network trained behind one of the two sees other pixels behind the other.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for version in 12.1.1 13.0.0; do
  python3 -m venv "$work/$version"
  "$work/$version/bin/pip" -q install "pillow==$version" numpy
done
cat > "$work/resize.py" <<'P'
import sys
import numpy as np
from PIL import Image

image = np.where(np.random.default_rng(0).integers(0, 2, (160, 160)), 255, 0).astype(np.uint8)
low = Image.fromarray(image).resize((120, 40), Image.Resampling.BICUBIC)
narrow = Image.fromarray(image.T.copy()).resize((40, 120), Image.Resampling.BICUBIC)
np.savez(sys.argv[1], low=np.asarray(low), narrow=np.asarray(narrow))
P
for version in 12.1.1 13.0.0; do
  "$work/$version/bin/python" "$work/resize.py" "$work/$version.npz"
done
"$work/13.0.0/bin/python" - "$work" <<'P'
import sys
import numpy as np

before, after = (np.load(f"{sys.argv[1]}/{version}.npz") for version in ("12.1.1", "13.0.0"))
apart = {name: int(np.abs(before[name].astype(int) - after[name]).max()) for name in before.files}
share = float(np.mean(before["low"] != after["low"]))
print(f"160x160 to 120x40: up to {apart['low']} levels apart, {share:.0%} of the pixels differ")
print(f"160x160 to 40x120: up to {apart['narrow']} levels apart")
sys.exit(0 if apart["low"] > 5 and apart["narrow"] == 0 else 1)
P
