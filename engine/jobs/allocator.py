"""Keep freed memory in the process: training frees and takes the same tensors every step, and giving each back to the system in
between costs page faults, up to half of the time of a small network on a CPU."""

import ctypes
import sys
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's M_ constants
_LARGE = 1 << 30


def keep_memory() -> None:
    """Tell glibc to keep what is freed; elsewhere nothing."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library: it has other habits
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_MMAP_THRESHOLD, _LARGE)
            libc.mallopt(_TRIM_THRESHOLD, _LARGE)
