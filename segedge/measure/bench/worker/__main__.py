"""``python -m segedge.measure.bench.worker``: one contender, once.

A job comes as JSON on stdin, its figures go as JSON in the last line of stdout.
"""

from __future__ import annotations

import json
import sys

from segedge.errors import BackendError, SegedgeError
from segedge.measure.bench.worker.job import decode_job
from segedge.measure.bench.worker.measure import measure_job, reason


def main() -> None:
    """Read the job, measure, answer; errors of the user's go back as data."""
    job = decode_job(sys.stdin.read())
    try:
        answer = measure_job(job)
    except SegedgeError as error:
        answer = {"error": reason(error)}
    except MemoryError:
        answer = {"error": BackendError("out of memory").headline}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
