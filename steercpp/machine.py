"""What the machine offers, as far as it decides how to compute."""

from __future__ import annotations

import warnings


def physical_cores() -> int:
    """CPU cores this process may use, hyper-threads counted once: ggml slows down with more threads than that."""
    from joblib import cpu_count

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it cannot tell cores from hyper-threads, it counts those and warns
        return int(cpu_count(only_physical_cores=True))
