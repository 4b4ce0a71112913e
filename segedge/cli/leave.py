"""The end of the process: without taking apart what the system takes back anyway."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading

from segedge.cli.console import print_error
from segedge.errors import SegedgeError


def leave(code: int) -> None:
    """End the process now, with this exit code; return where it must end by the ordinary way.

    With Numba and an inference library loaded Python spends 0.3 to 0.6 s on taking its modules
    apart, a third of a run of one frame. All outputs are closed by then, and what asked to be
    called at the end is called. The ordinary way remains where something still watches the end: a
    profiler, a tracer, an interactive session, a thread that is to be waited for.
    """
    if sys.flags.interactive or sys.flags.inspect or _is_watched() or _has_other_threads():
        return
    atexit._run_exitfuncs()  # as Python itself does: in turn, errors printed
    logging.shutdown()
    try:
        sys.stdout.flush()
    except SegedgeError as error:
        print_error(error)
        code = 2
    except BrokenPipeError:
        code = code or 1
    sys.stderr.flush()
    os._exit(code)


def _is_watched() -> bool:
    """Whether a profiler, a debugger or coverage wants to see the process to its end."""
    if sys.gettrace() is not None or sys.getprofile() is not None:
        return True
    monitoring = getattr(sys, "monitoring", None)  # Python 3.12 and later
    return monitoring is not None and any(
        monitoring.get_tool(number) is not None for number in range(6)
    )


def _has_other_threads() -> bool:
    main = threading.main_thread()
    return any(not thread.daemon and thread is not main for thread in threading.enumerate())
