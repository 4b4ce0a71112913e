"""Write the demo clip: ``python export/street/clip.py out.mp4``.

The clip shows a scene that the network was never trained on. It is the same on every machine, up
to the version of the encoder.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import av
from rich.console import Console
from rich.progress import track
from scenes import Scene

CLIP_SEED = 22  # training starts at 10000, the measured scenes at 900000
START_SECONDS = 2.0
_OPTIONS = {"preset": "veryslow", "threads": "1"}


def write_clip(path: Path, seconds: float, fps: int, size: tuple[int, int], crf: int) -> int:
    """Render and encode the clip as H.264.

    Args:
        path: The MP4 file to write.
        seconds: Length of the clip.
        fps: Frames a second.
        size: Height and width in pixels, both even.
        crf: Quality of x264: lower is better and larger.

    Returns:
        The number of bytes written.
    """
    scene = Scene(CLIP_SEED, mood="day", noise=0.6)
    height, width = size
    count = round(seconds * fps)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=_OPTIONS | {"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, fps)
        for index in track(range(count), "rendering", console=Console(stderr=True)):
            image, _ = scene.render(START_SECONDS + index / fps, height, width)
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.stat().st_size


def main() -> None:
    """Parse the command line and write the clip."""
    parser = argparse.ArgumentParser(description="Write the demo clip of the street scenes.")
    parser.add_argument("out", type=Path, nargs="?", default=Path(__file__).parent / "street.mp4")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--height", type=int, default=540)
    parser.add_argument("--width", type=int, default=960)
    parser.add_argument("--crf", type=int, default=28)
    args = parser.parse_args()
    size = (args.height, args.width)
    written = write_clip(args.out, args.seconds, args.fps, size, args.crf)
    print(f"wrote {args.out}  {args.width}x{args.height}, {args.fps} fps, {written / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
