#!/usr/bin/env bash
# FFmpeg's `export_mvs` with frame threads: which frames have vectors differs from run to run.
#
# Seen with PyAV 18.1.0 (its wheel's FFmpeg), two processors: one small H.264 file with B frames,
# decoded 400 times with flags2=+export_mvs. With thread_type SLICE every run attaches
# MOTION_VECTORS to the same frames. With AUTO (frame threads) some runs leave one frame's out, of
# the same file: about one in fifteen. Pictures are the same; nothing warns.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import sys
from collections import Counter

import av
import numpy as np

path = f"{sys.argv[1]}/clip.mp4"
ground = np.random.default_rng(0).integers(0, 90, (48, 64, 3), np.uint8)
with av.open(path, "w") as container:
    stream = container.add_stream("libx264", rate=25)
    stream.options = {"x264-params": "keyint=6:min-keyint=1:scenecut=0:bframes=2"}
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for n in range(36):
        image = ground.copy()
        image[n * 2 % 32 :, n * 3 % 48 :][:16, :16] = 230
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
    container.mux(stream.encode())


def with_vectors(threads):
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"flags2": "+export_mvs"}
        stream.thread_type = threads
        frames = container.decode(stream)
        return sum(any(d.type.name == "MOTION_VECTORS" for d in f.side_data) for f in frames)


print("PyAV", av.__version__)
found = {kind: Counter(with_vectors(kind) for _ in range(400)) for kind in ("SLICE", "AUTO")}
for kind, counts in found.items():
    print(f"{kind:5} frames with vectors, and in how many runs: {dict(counts)}")
sys.exit("changed since" if len(found["SLICE"]) != 1 or len(found["AUTO"]) < 2 else 0)
PY
"$folder/venv/bin/python" "$folder/show.py" "$folder"
