"""Keep freed memory in the process, so that a training step does not fault its pages in anew.

glibc gives blocks of some megabytes back to the kernel as soon as they are free. A training step
frees and asks for dozens of them (the activations of a batch), and the kernel zeroes every page
again: on CPU that is a fifth to a third of a step. The price is that the process keeps the memory
of its largest step, which it needs again a moment later anyway.
"""

import ctypes
import gc
from typing import Final

# <malloc.h>
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3

REUSED_BLOCK_BYTES: Final = 256 * 2**20
"""Smaller blocks are reused; larger ones (tables) still go back to the kernel when freed."""
KEPT_BYTES: Final = 2**30
"""Free memory at the end of the heap that is kept."""


def keep_freed_memory() -> bool:
    """Tell the C library to reuse blocks instead of returning them; call it before any tensor.

    Returns:
        Whether the C library took it; without glibc nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or no dlopen(NULL)
        return False
    settings = ((M_MMAP_THRESHOLD, REUSED_BLOCK_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES))
    taken = [mallopt(option, value) == 1 for option, value in settings]
    return all(taken)


def return_freed_memory() -> None:
    """Give what is kept back to the kernel, so that what is needed next can be measured."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
