"""What the addresses of a server share: the model, its scheduler, vectors and limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from steercpp.engine.engine import Engine
from steercpp.errors import InputError
from steercpp.serving.conversation import Conversation
from steercpp.serving.folder import VectorFolder
from steercpp.serving.metrics import Metrics
from steercpp.serving.scheduler import Scheduler

Made = TypeVar("Made")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What a server takes and shows.

    Attributes:
        name: what the model is called; "" for its file's name without the ending.
        vectors: folder of the vectors that requests may name; None for none.
        api_keys: of which a request has to bring one; () where none is asked for.
        allow_uploads: whether vectors may be put into the folder, and deleted.
        log_prompts: whether prompts are logged.
        max_body_bytes, max_upload_bytes: of a request, and of an uploaded vector.
        read_s: seconds in which a body has to be there.
        send_s: seconds in which a client has to take what is sent.
        grace_s: seconds that requests have to end once the server is to end.

    Raises:
        InputError: an empty key, a number that is not above 0, or uploads without a folder.
    """

    name: str = ""
    vectors: Path | None = None
    api_keys: tuple[str, ...] = ()
    allow_uploads: bool = False
    log_prompts: bool = False
    max_body_bytes: int = 4 << 20
    max_upload_bytes: int = 64 << 20
    read_s: float = 60.0
    send_s: float = 30.0
    grace_s: float = 30.0

    def __post_init__(self) -> None:
        if not all(key.strip() for key in self.api_keys):
            raise InputError("an `api_key` is empty; give one that others cannot guess")
        for name in ("max_body_bytes", "max_upload_bytes", "read_s", "send_s", "grace_s"):
            if not getattr(self, name) > 0:
                raise InputError(f"`{name}` is {getattr(self, name)}; give a number above 0")
        if self.allow_uploads and self.vectors is None:
            raise InputError("`allow_uploads` needs a folder for the vectors; name one with `vectors`")


class Service:
    """What the addresses of a server share. Close it at the end.

    Args:
        engine: the model.
        scheduler: of the engine.
        options: what is taken and shown.
        is_local: whether only this machine can reach the server.

    Attributes:
        name: what the model is called.
        started: when, in seconds since 1970.
        folder, conversation, metrics: of the server.

    Raises:
        VectorFileError: there is no such folder of vectors.
    """

    def __init__(self, engine: Engine, scheduler: Scheduler, options: ServiceOptions, *, is_local: bool = True) -> None:
        self.engine, self.scheduler, self.options, self.is_local = engine, scheduler, options, is_local
        self.name = options.name or engine.path.stem
        self.started = int(time.time())
        self.folder = VectorFolder(options.vectors, engine)
        self.conversation = Conversation(engine, scheduler.n_cells)
        self.metrics = Metrics(scheduler)
        self._thread = ThreadPoolExecutor(1, "steercpp-texts")

    async def in_thread(self, make: Callable[[], Made]) -> Made:
        """What takes time, such as templates, tokenizing and files, in the one thread for that."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, make)

    def close(self) -> None:
        """End the threads; requests that are not done fail."""
        self.scheduler.close()
        self._thread.shutdown(cancel_futures=True)
