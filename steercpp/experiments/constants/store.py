"""Constants in their run directory: `constants.json` and `constants.npz`; read this for when they are out of date.

They are written together, the record, which names the arrays' hash and the plan that it belongs to, last: so there is
a whole set or none, and one of an earlier run in the same folder is noticed. The same constants give the same bytes.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from steercpp.encoding import json_ready
from steercpp.errors import RunError
from steercpp.experiments.constants.derive import Constants
from steercpp.experiments.constants.words import facts
from steercpp.files import recover, write_together
from steercpp.inputs import read_input, reading
from steercpp.locks import writing
from steercpp.runs.manifest import read_manifest
from steercpp.vectors.npz import members

FORMAT = "steercpp constants 2"
RECORD, ARRAYS = "constants.json", "constants.npz"
AGAIN = "measure the constants again with `force=True`"
_MOST_BYTES = 1 << 28  # of all arrays; those of 20,000 items have a tenth of it


def write_constants(folder: Path, constants: Constants) -> tuple[Path, Path]:
    """Write both files, replacing older ones.

    Returns:
        their paths, the record's first.

    Raises:
        RunError: they cannot be written, or another process writes there.
    """
    data = io.BytesIO()
    arrays: Mapping[str, Any] = dict(sorted(constants.arrays.items()))
    np.savez_compressed(data, **arrays)
    record = {"format": FORMAT, **constants.record, "arrays_sha256": sha256(data.getvalue()).hexdigest()}
    text = json.dumps(json_ready(record), indent=1, allow_nan=False) + "\n"
    with writing(folder, otherwise=""):
        write_together(folder, {ARRAYS: data.getvalue(), RECORD: text.encode()})
    return folder / RECORD, folder / ARRAYS


def read_constants(folder: Path | str) -> Constants | None:
    """The constants of a run, None where there are none, or those of another plan or an older form.

    Raises:
        RunError: no run directory, or its constants are damaged.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    path = folder / RECORD
    with reading(path, RunError, again=AGAIN):
        if not path.exists():
            with suppress(OSError):
                recover(folder)  # a process may have been killed while it replaced them
        if not path.exists() or not (folder / ARRAYS).exists():
            return None
        record = json.loads(read_input(path))
        if not isinstance(record, dict) or not str(record.get("format")).startswith(FORMAT[:-1]):
            raise RunError(f"{path}: not a record of {FORMAT!r}; {AGAIN}")
        if record["format"] != FORMAT or record.get("plan_sha256") != manifest.plan.sha256:
            return None
        if sha256(read_input(folder / ARRAYS, limit=_MOST_BYTES)).hexdigest() != record.get("arrays_sha256"):
            raise RunError(f"{folder / ARRAYS}: not the arrays that {RECORD} was made with; {AGAIN}")
        with members(folder / ARRAYS, RunError, most_bytes=_MOST_BYTES) as described:
            arrays = {member.name: member.values(RunError, folder / ARRAYS) for member in described}
        if strange := sorted(name for name, values in arrays.items() if values.dtype.kind not in "fiub"):
            raise RunError(f"{folder / ARRAYS}: {strange[0]} holds no numbers; {AGAIN}")
        facts(record := _numbers(record))  # what commands show of it is there, and of the kinds that it must be
        return Constants(record, arrays)


def _numbers(value: Any) -> Any:
    """What `json_ready` wrote, with NaN again for null inside lists of numbers."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list) and all(item is None or isinstance(item, int | float) for item in value):
        return [math.nan if item is None else item for item in value]
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return value
