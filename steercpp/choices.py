"""Names that a user chooses among: the values of a parameter in Python, and of an option on the command line."""

from __future__ import annotations

from typing import Literal, TypeAlias

Operator: TypeAlias = Literal["add", "add-keep-norm", "ablate", "clamp", "cap", "rotate"]
Positions: TypeAlias = Literal["all", "prompt", "generated", "last"]
Side: TypeAlias = Literal["both", "positive", "negative"]
Unit: TypeAlias = Literal["length", "norm", "kl"]
