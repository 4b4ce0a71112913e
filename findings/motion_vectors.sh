#!/usr/bin/env bash
# FFmpeg's `export_mvs` and the codecs: which decoders hand out their motion vectors.
#
# Seen with PyAV 18.1.0 (its wheel's FFmpeg), a texture that moves by 3 pixels a frame, each codec's
# decoder opened with flags2=+export_mvs: H.264 and MPEG-4 attach MOTION_VECTORS to their predicted
# frames; H.265, VP9 and AV1, which are coded with motion vectors all the same, attach none, and
# no warning, no error and no property of the decoder says that the flag did nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import sys
from pathlib import Path

import av
import numpy as np

CODECS = {"libx264": True, "mpeg4": True, "libx265": False, "libvpx-vp9": False, "libsvtav1": False}
FRAMES = 24
av.logging.set_level(av.logging.ERROR)


def write(path, codec):
    texture = np.random.default_rng(0).integers(0, 256, (18, 40)).astype(np.uint8)
    texture = np.kron(texture, np.ones((16, 16), np.uint8))  # blocks of 16 pixels
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for index in range(FRAMES):
            grey = texture[24:264, 3 * index : 3 * index + 320]
            frame = av.VideoFrame.from_ndarray(np.repeat(grey[..., None], 3, axis=2), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def with_vectors(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"flags2": "+export_mvs"}
        frames = list(container.decode(stream))
        kinds = [[data.type.name for data in frame.side_data] for frame in frames]
    return len(frames), sum("MOTION_VECTORS" in kind for kind in kinds)


print("PyAV", av.__version__, "FFmpeg's avcodec", av.library_versions["libavcodec"])
changed = False
for codec, expected in CODECS.items():
    path = Path(sys.argv[1]) / f"{codec}.mkv"
    write(path, codec)
    count, found = with_vectors(path)
    print(f"{codec:12} {found} of {count} frames have motion vectors")
    changed |= (found > 0) is not expected
sys.exit("changed since" if changed else 0)
PY
"$folder/venv/bin/python" "$folder/show.py" "$folder"
