"""Where the repository's own files lie, for tests; and the type of the fixture that makes models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
EMBEDDED = ROOT / "models" / "embedded.gguf"
SECRET = "planted-7f3a"
ModelMaker = Callable[[str], Path]
