"""Letting the C allocator keep freed memory for the next step."""

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_KEEP_BYTES = 2**31 - 1
_GROW_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Tell glibc to reuse freed blocks instead of returning them to the system; False where there is no glibc.

    A training step frees and asks again for the same large activations; glibc maps each anew by default and the
    kernel zeroes every page of it. Reuse made a CIFAR-10 step 10 to 15 % faster on a Zen 5. The setting lasts for
    the process.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no libc, no mallopt in it, Windows
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEEP_BYTES), (_M_TOP_PAD, _GROW_BYTES))
    accepted = [mallopt(name, value) == 1 for name, value in settings]
    return all(accepted)
