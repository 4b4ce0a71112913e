"""Write one frame of a video as a PNG: ``python still.py VIDEO PNG [SECONDS]``."""

from __future__ import annotations

import sys

import cv2


def main(video: str, picture: str, seconds: float = 4.0) -> None:
    """Save the first frame at or after ``seconds``, or the last one of a shorter video."""
    capture = cv2.VideoCapture(video)
    capture.set(cv2.CAP_PROP_POS_MSEC, seconds * 1000.0)
    ok, image = capture.read()
    if not ok:
        sys.exit(f"{video}: no frame at {seconds} s")
    cv2.imwrite(picture, image)
    print(f"wrote       {picture}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:4]))
