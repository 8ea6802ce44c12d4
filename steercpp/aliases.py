"""Types that every room names: arrays by their element type, tokens, and what is told of progress; and NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]  # activations, directions, logits
Floats: TypeAlias = npt.NDArray[np.float64]  # what is computed from them
Bools: TypeAlias = npt.NDArray[np.bool_]
Tokens: TypeAlias = tuple[int, ...]

TokenProgress: TypeAlias = Callable[[int, int], None]  # tokens done, tokens in all
Progress: TypeAlias = Callable[[int, int, str], None]  # done, in all, what is being done

NAN = float("nan")  # stands where a number would mean nothing
