"""Constants in their run directory: `constants.json` and `constants.npz`; read this for when they are out of date.

They are written together, the record, which names the arrays' hash and the plan that it belongs to, last: so there is
a whole set or none, and one of an earlier run in the same folder is noticed. The same constants give the same bytes.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from steercpp.encoding import json_ready
from steercpp.errors import RunError
from steercpp.experiments.constants.derive import Constants
from steercpp.files import write_together
from steercpp.locks import writing
from steercpp.runs.manifest import read_manifest

FORMAT = "steercpp constants 2"
RECORD, ARRAYS = "constants.json", "constants.npz"


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
    again = "measure the constants again with `force=True`"
    try:
        record = json.loads(path.read_bytes())
        if not isinstance(record, dict) or not str(record.get("format")).startswith(FORMAT[:-1]):
            raise RunError(f"{path}: not a record of {FORMAT!r}; {again}")
        if record["format"] != FORMAT or record.get("plan_sha256") != manifest.plan.sha256:
            return None
        data = (folder / ARRAYS).read_bytes()
        if sha256(data).hexdigest() != record.get("arrays_sha256"):
            raise RunError(f"{folder / ARRAYS}: not the arrays that {RECORD} was made with; {again}")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: the constants cannot be read ({error}); {again}") from error
    return Constants(_numbers(record), arrays)


def _numbers(value: Any) -> Any:
    """What `json_ready` wrote, with NaN again for null inside lists of numbers."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list) and all(item is None or isinstance(item, int | float) for item in value):
        return [math.nan if item is None else item for item in value]
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return value
