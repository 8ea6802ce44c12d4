"""Where a result came from: hashes, versions, the command, the machine; read this when you store a result.

Hashes are sha256 in hexadecimal. What is hashed is written out canonically, so that the same model, vector
and items give the same hash on every machine.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from steercpp.encoding import shell_line

PACKAGES = ("steercpp", "llama-cpp-python", "numpy", "scipy", "scikit-learn", "lmfit", "gguf", "matplotlib")


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def json_sha256(value: Any) -> str:
    """Hash of a JSON value written with sorted keys and no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on, as installed."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def machine() -> dict[str, str]:
    """The kind of machine: system, processor architecture."""
    return {"system": platform.system(), "release": platform.release(), "machine": platform.machine()}


def command() -> str:
    """The command line of this process, for a shell."""
    return shell_line([Path(sys.argv[0]).name, *sys.argv[1:]])


def commit() -> str | None:
    """Commit of the source that is running, "-dirty" behind it where files differ; None where it is not in git."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return ended.stdout.strip()


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def physical_cores() -> int:
    """CPU cores this process may use, hyper-threads counted once: ggml slows down with more threads than that."""
    from joblib import cpu_count

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it cannot tell cores from hyper-threads, it counts those and warns
        return int(cpu_count(only_physical_cores=True))
