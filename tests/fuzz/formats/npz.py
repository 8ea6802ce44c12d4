"""Vectors as npz: what zip and npy hold, and what they claim."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from campaign import Format, command
from mutations import spoil_bytes

from steercpp import ControlVector
from steercpp.vectors.formats import read_any_vector, write_any_vector

HEADERS = (
    "{{'descr': '<f4', 'fortran_order': False, 'shape': ({n},), }}",
    "{{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }}",
    "{{'descr': '<f4', 'fortran_order': True, 'shape': ({n}, 1), }}",
    "{{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,), }}",
    "{{'descr': '|O', 'fortran_order': False, 'shape': ({n},), }}",
    "{{'descr': '<U1000000000', 'fortran_order': False, 'shape': (), }}",
    "{{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ({n},), }}",
    "{{'descr': 5, 'fortran_order': 'no', 'shape': {n}, }}",
    "{{'descr': '<f4', 'fortran_order': False, 'shape': ('a',), }}",
    "{{'descr': '<f4', 'shape': (True,), }}",
    "((((",
    "{deep}",
    "'\\x00",
    "{{}}",
    "[1]",
    "1" * 5000,
)
MAGICS = (b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00", b"\x93NUMPY\x03\x00", b"\x93NUMPY\x09\x00", b"PK\x03\x04\x00\x00")


def prepare(folder: Path) -> bytes:
    """An intact file's bytes."""
    rng = np.random.default_rng(0)
    vector = ControlVector({il: rng.standard_normal(64).astype(np.float32) for il in (1, 2, 3)}, "llama", n_layer=8)
    write_any_vector(folder / "v.npz", vector)
    use(folder)
    command("show", folder / "v.npz")
    return (folder / "v.npz").read_bytes()


def make(rng: np.random.Generator, prepared: object, folder: Path) -> None:
    """A damaged archive, or one with members of another kind."""
    assert isinstance(prepared, bytes)
    path = folder / "v.npz"
    if rng.random() < 0.4:
        path.write_bytes(spoil_bytes(prepared, rng))
        return
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(io.BytesIO(prepared)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    target = list(members)[int(rng.integers(len(members)))]
    kind = int(rng.integers(4))
    if kind == 0:
        members[target] = spoil_bytes(members[target], rng)
    elif kind == 1:
        header = HEADERS[int(rng.integers(len(HEADERS)))].format(n=64, deep="(" * 3000 + ")" * 3000).encode("latin1")
        magic = MAGICS[int(rng.integers(len(MAGICS)))]
        length = len(header).to_bytes(2 if magic[6:7] == b"\x01" else 4, "little")
        members[target] = magic + length + header + bytes(int(rng.choice([0, 256, 256, 1 << 24])))
    elif kind == 2:
        members |= {f"direction.{il}.npy": bytes(1 << 20) for il in range(4, int(rng.choice([6] * 20 + [1100])))}
    else:
        members[
            str(rng.choice(["../x.npy", "direction.0.npy", "direction.99999999999999999999.npy", "a", "a" * 60_000]))
        ] = b""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kinds[int(rng.integers(4))]) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    data = file.getvalue()
    path.write_bytes(data if rng.random() < 0.7 else spoil_bytes(data, rng))


def use(folder: Path) -> None:
    """Read it; one in eight by the command line."""
    path = folder / "v.npz"
    if path.stat().st_size % 8 == 0:
        command("show", path)
    else:
        read_any_vector(path)


FORMATS = (Format("npz", prepare, make, use),)
