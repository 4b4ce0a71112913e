"""The process of a push that talks to the network.

PyAV holds Python's lock while it connects and while it says goodbye: a server that does not answer
would stop the whole run. So the packets go to this process, one at a time, and it can be ended.

On standard input: a line of JSON (address, format, options, codec, size, rate, time base), then
packets, each a `HEAD` and its bytes; an empty one ends the stream. On standard output: a line for
each, empty or what was wrong, as JSON.
"""

from __future__ import annotations

import errno
import json
import struct
import sys
from fractions import Fraction
from typing import Any, BinaryIO

import av
import av.error

HEAD = struct.Struct("<qqqBI")
"""Presentation and decoding time and duration in ticks, whether a key frame, length in bytes."""


def main(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Send until the empty packet, or the first error."""
    try:
        _send_all(stdin, stdout)
        problem: dict[str, Any] | None = None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        problem = _described(error)
    stdout.write((json.dumps(problem) if problem else "").encode() + b"\n")
    stdout.flush()


def _send_all(stdin: BinaryIO, stdout: BinaryIO) -> None:
    setup = json.loads(stdin.readline())
    with av.open(setup["url"], "w", format=setup["format"], options=setup["options"]) as container:
        base = Fraction(setup["time_base"])
        stream = container.add_mux_stream(
            setup["codec"],
            Fraction(setup["rate"]),
            width=setup["width"],
            height=setup["height"],
            time_base=base,
        )
        while len(head := stdin.read(HEAD.size)) == HEAD.size:
            pts, dts, duration, is_key, length = HEAD.unpack(head)
            if not length:
                return
            packet = av.Packet(stdin.read(length))
            packet.stream, packet.time_base = stream, base
            packet.pts, packet.dts, packet.duration = pts, dts, duration
            packet.is_keyframe = bool(is_key)
            container.mux(packet)
            stdout.write(b"\n")
            stdout.flush()


def _described(error: Exception) -> dict[str, Any]:
    code = getattr(error, "errno", None) or errno.EIO
    if isinstance(error, (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)):
        code = errno.EACCES
    return {"errno": code, "text": getattr(error, "strerror", None) or str(error)}


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
