"""llama-cvector-generator, stage by stage: what it takes to load the model, to decode the prompts, and for its PCA.

It tells no times, but it writes a line where each stage ends, and the moment at which a line comes is taken. Its output
is a terminal: into a pipe its lines would come in blocks, long after they were written. By its source and pca.hpp
of llama.cpp 0c1e57098, and in its favour where a stage has no line of its own:

    n_total_tokens: ...                 the model is loaded, the files are read and tokenized; decoding begins
    Done evaluate prompts, ...          all prompts are decoded; what follows is its PCA
    run_pca: Done layer k / k           the last layer's direction is there; what follows is writing the file

It is run with its own defaults: every prompt in a batch of its own, no warm-up, 1000 iterations of its PCA.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from steercpp.bench.peers import failed, gpu_layers
from steercpp.bench.setting import Setting
from steercpp.files import write_atomically

NAME = "llama-cvector-generator"
N_CTX = 512
POSITIVE, NEGATIVE, WRITTEN = "positive.txt", "negative.txt", "by-cvector-generator.gguf"
_TOKENS = re.compile(r"n_total_tokens: ([0-9]+)")
_DECODED = "Done evaluate prompts"
_LAYER = re.compile(r"run_pca: Done layer ([0-9]+) / ([0-9]+)")


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds of one run's stages, and how many tokens it decoded."""

    load_s: float
    decode_s: float
    pca_s: float
    n_tokens: int

    @property
    def own_s(self) -> float:
        """Seconds between the loaded model and the last direction."""
        return self.decode_s + self.pca_s


def write_prompts(folder: Path, pairs: Sequence[tuple[str, str]]) -> None:
    """The two files that it reads: one prompt a line, a positive one for every negative one."""
    for name, side in ((POSITIVE, 0), (NEGATIVE, 1)):
        write_atomically(folder / name, "".join(f"{pair[side]}\n" for pair in pairs).encode())


def command(path: Path, setting: Setting) -> list[str]:
    """The command line; to be run where the prompts are."""
    where = ["--model", str(setting.path.resolve()), "--gpu-layers", gpu_layers(setting)]
    size = ["--ctx-size", str(N_CTX), "--threads", str(setting.threads)]
    files = ["--positive-file", POSITIVE, "--negative-file", NEGATIVE, "--output", WRITTEN]
    return [str(path), *where, *size, "--method", "pca", *files]


def run(path: Path, setting: Setting, folder: Path) -> Stages:
    """Run it on the prompts in a folder.

    Raises:
        EngineError: it failed, or lacks one of the lines.
    """
    moments: dict[str, float] = {}
    n_tokens = 0
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        start = time.perf_counter()
        process, lines = _started(command(path, setting), folder, errors)
        with process:
            try:
                for moment, line in lines:
                    if match := _TOKENS.match(line):
                        n_tokens = int(match[1])
                        moments["loaded"] = moment
                    elif line.startswith(_DECODED):
                        moments["decoded"] = moment
                    elif (match := _LAYER.match(line)) and match[1] == match[2]:
                        moments["done"] = moment
            except BaseException:
                process.kill()
                raise
        if process.returncode or len(moments) < 3:
            errors.seek(0)
            raise failed(path, process.returncode, errors.read())
    loaded, decoded, done = (moments[name] for name in ("loaded", "decoded", "done"))
    return Stages(loaded - start, decoded - loaded, done - decoded, n_tokens)


def _started(
    arguments: Sequence[str], folder: Path, errors: IO[str]
) -> tuple[subprocess.Popen[bytes], Iterator[tuple[float, str]]]:
    """A process whose output is a terminal, and its lines, each with the moment at which it came."""
    ours, its = os.openpty()
    try:
        process = subprocess.Popen(arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=its, stderr=errors)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(its)
    return process, _lines(ours)


def _lines(terminal: int) -> Iterator[tuple[float, str]]:
    """Lines that come from a terminal until the other side has closed it."""
    rest = b""
    try:
        while data := _read(terminal):
            moment = time.perf_counter()
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield moment, line.decode(errors="replace").rstrip("\r")
    finally:
        os.close(terminal)


def _read(terminal: int) -> bytes:
    """What has come; nothing once the other side has closed it, which Linux tells by an error."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError as error:
        if error.errno == errno.EIO:
            return b""
        raise
