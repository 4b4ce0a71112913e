#!/usr/bin/env bash
# SVT-AV1 makes the thread that opens it real-time, for good, where the program may (as root).
#
# Seen with PyAV 18.1.0 (its wheel's SVT-AV1), Linux, as root, as most containers run: after one
# AV1 encoder was opened, used and closed, the calling thread is SCHED_FIFO with priority 99, and
# so is every process that it starts from then on. x264, x265 and VP9 leave it SCHED_OTHER. A program
# that encodes on all cores then starves whatever else runs there. As another user than root nothing
# changes, so it shows in deployment only.
set -euo pipefail
if [ "$(id -u)" != 0 ]; then
    echo "needs root: another user may not become real-time" >&2
    exit 2
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import os
import subprocess
import sys

import av
import numpy as np

av.logging.set_level(av.logging.ERROR)
NAMES = {os.SCHED_OTHER: "SCHED_OTHER", os.SCHED_FIFO: "SCHED_FIFO"}
HOW = "import os; print(os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)"


def encode(codec):
    """Ten frames."""
    with av.open(os.devnull, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def state():
    """Scheduler and priority of this thread, and of a process that it starts."""
    child = subprocess.run([sys.executable, "-c", HOW], capture_output=True, text=True).stdout.split()
    own = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    return own, tuple(map(int, child))


codec, expected = sys.argv[1], sys.argv[2]
encode(codec)
(own, priority), child = state()
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
print(f"after {codec:10} {NAMES.get(own, own)} {priority}; a child: {NAMES.get(child[0])} {child[1]}")
sys.exit(NAMES.get(own) != expected or child != (own, priority))
PY
echo "PyAV $("$folder/venv/bin/python" -c 'import av; print(av.__version__)')"
for codec in libx264 libx265 libvpx-vp9; do "$folder/venv/bin/python" "$folder/show.py" "$codec" SCHED_OTHER; done
"$folder/venv/bin/python" "$folder/show.py" libsvtav1 SCHED_FIFO
