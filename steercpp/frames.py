"""Results as data frames of pandas or polars, which are imported when they are asked for.

result.to_frame()            pandas
result.to_frame("polars")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, TypeAlias, get_args

from steercpp.errors import InputError

FrameKind: TypeAlias = Literal["pandas", "polars"]


def frame(columns: Mapping[str, Sequence[Any]], kind: FrameKind = "pandas") -> Any:
    """A data frame of columns.

    Args:
        columns: by name, all of one length.
        kind: "pandas" or "polars".

    Returns:
        a pandas.DataFrame or polars.DataFrame.

    Raises:
        InputError: another kind, or the package is not installed.
    """
    if kind not in get_args(FrameKind):
        raise InputError(f"data frames of {kind!r} are unknown; use one of {', '.join(get_args(FrameKind))}")
    try:
        package = import_module(kind)
    except ImportError as error:
        raise InputError(f"{kind} is not installed; `pip install 'steercpp[{kind}]'` does") from error
    return package.DataFrame({name: list(values) for name, values in columns.items()})
