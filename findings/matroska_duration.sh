#!/usr/bin/env bash
# The duration of a Matroska file that begins late is its end time; of MP4 and MPEG-TS, its length.
#
# Seen with PyAV 18.1.0 (its wheel's FFmpeg): the same two seconds of H.264, their time stamps
# beginning at 60 s as those of a piece of a recording do. The container's `duration` is 62 s for
# Matroska and 2 s for MPEG-TS and MP4; start_time is 60 s in all three. Who multiplies the
# duration by the rate takes the piece for a broken file of 1,550 frames.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

av.logging.set_level(av.logging.ERROR)
print("PyAV", av.__version__, "FFmpeg's avformat", av.library_versions["libavformat"])
found = {}
for ending in ("mkv", "ts", "mp4"):
    path = Path(sys.argv[1]) / f"piece.{ending}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = 60 * 25 + index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
        start, length = container.start_time / av.time_base, container.duration / av.time_base
    print(f"{ending:4} {frames} frames, start_time {start:.2f} s, duration {length:.2f} s")
    found[ending] = round(length)
sys.exit("changed since" if found != {"mkv": 62, "ts": 2, "mp4": 2} else 0)
PY
"$folder/venv/bin/python" "$folder/show.py" "$folder"
