"""Ctrl-C while a plan is carried out: once to stop in good order, twice to end at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from asyncjobs.errors import ExitCode
from asyncjobs.provision.halt import Halt

_ONCE = b"\nStopping: what is under way is finished. Ctrl-C again ends at once.\n"
_TWICE = b"\x1b[?25h\nEnded at once; run the same command again to go on.\n"  # the live display hid the cursor


@contextmanager
def interruptible(halt: Halt) -> Iterator[None]:
    """Within it, the first SIGINT or SIGTERM asks `halt`; the second ends the process with exit code 130."""

    def stop(_number: int, _frame: object) -> None:
        # os.write: the interrupted code may be in the middle of printing.
        if halt.asked:
            os.write(2, _TWICE)
            os._exit(ExitCode.INTERRUPTED)
        halt.ask()
        os.write(2, _ONCE)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
