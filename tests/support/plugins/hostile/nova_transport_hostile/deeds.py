"""What a hostile plugin does, wherever it does it."""

from __future__ import annotations

import atexit
import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from nova.errors import TransportError

LONG = 10 << 20
THREADS = 200


def hang() -> None:
    threading.Event().wait()


def hang_gil() -> None:
    """A call into C that keeps the GIL, as MLX's init does."""
    ctypes.PyDLL(None).sleep(3600)


def segv() -> None:
    ctypes.string_at(0)


def exit_at_once() -> NoReturn:
    os._exit(0)


def sys_exit() -> NoReturn:
    sys.exit(0)


def raise_value() -> NoReturn:
    raise ValueError("this plugin is hostile")


def raise_transport() -> NoReturn:
    raise TransportError("this plugin is hostile")


def long() -> NoReturn:
    """A message of megabytes, with a character that UTF-8 has not."""
    raise ValueError("hostile \udc80" + "x" * LONG)


def log() -> None:
    """Write to both outputs without end."""
    while True:
        os.write(1, b"o" * 4096)
        os.write(2, b"hostile\n" * 512)


def threads() -> NoReturn:
    """Leave threads that do not end, and an exit handler that does not either."""
    for _ in range(THREADS):
        threading.Thread(target=hang).start()
    atexit.register(hang)
    raise ValueError("this plugin is hostile")


def child() -> NoReturn:
    """Leave a process that holds our standard error open."""
    subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
    raise ValueError("this plugin is hostile")


DEEDS: dict[str, Callable[[], None]] = {
    "hang": hang,
    "hang-gil": hang_gil,
    "segv": segv,
    "exit": exit_at_once,
    "sys-exit": sys_exit,
    "raise": raise_value,
    "error": raise_transport,
    "long": long,
    "log": log,
    "threads": threads,
    "child": child,
}
"""What can be done anywhere, by name. Some return never, some never normally."""
