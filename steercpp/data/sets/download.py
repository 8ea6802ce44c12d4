"""One file from a server that may be broken or hostile; read this for what a download refuses, and when it gives up.

An address is https, or http of this machine, as of a mirror that runs here. A redirect leads to https again, or to the
same server of this machine; what began as https never goes on as http. The body is taken as it stands, unpacked by
nobody: at most so many bytes, exactly as many as the server announced, at no less than `LEAST_SPEED` and within
`LONGEST_S`. Whatever fails leaves nothing behind but what the caller deletes.
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import SplitResult, urljoin, urlsplit

from steercpp.aliases import Progress
from steercpp.errors import DataSetError

TIMEOUT_S = 30.0  # for a connection, and without a single byte
WINDOW_S = 60.0  # over which a speed is measured
LEAST_SPEED = 1024  # bytes a second
LONGEST_S = 3600.0  # for a whole file; the largest has 160 MiB
REDIRECTS = 5
_CHUNK = 1 << 16  # bytes
_TICK_S = 0.05
_BY_HAND = "fetch it by hand and name its folder with `data`"


@dataclass(slots=True)
class _Transfer:
    """What the thread that reads tells, and whether it is to stop."""

    n_bytes: int = 0
    total: int = 0  # bytes, as announced; 0 where nothing is
    sha256: str = ""
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)
    given_up: threading.Event = field(default_factory=threading.Event)


def download(url: str, path: Path, *, largest: int, progress: Progress | None = None) -> str:
    """Fetch an address into a file.

    Args:
        url: https://..., or http://... of this machine.
        path: the file, which is made.
        largest: bytes that it may have.
        progress: called with (bytes, of how many, the file's name).

    Returns:
        its sha256.

    Raises:
        DataSetError: no such address, a redirect that is not allowed, no connection, an answer other than 200, too many
            bytes or others than announced, too slow. What was written is of no use.
    """
    _check_address(url)
    transfer = _Transfer()
    thread = threading.Thread(target=_run, args=(transfer, url, path, largest), daemon=True)
    thread.start()
    try:
        _wait(transfer, url, path.name, progress)
    finally:
        transfer.given_up.set()  # a thread that still reads ends with its next bytes
    if transfer.error is not None:
        _raise_for(url, transfer.error)
    if progress:
        progress(transfer.n_bytes, transfer.n_bytes, path.name)
    return transfer.sha256


def _wait(transfer: _Transfer, url: str, name: str, progress: Progress | None) -> None:
    """Until it is done, or too slow: this looks at the clock however the bytes trickle in."""
    began = window_began = time.monotonic()
    in_window = told = 0
    while not transfer.done.wait(_TICK_S):
        now, n_bytes = time.monotonic(), transfer.n_bytes
        if progress and n_bytes != told:
            told = n_bytes
            progress(n_bytes, max(transfer.total, n_bytes), name)
        if now - began > LONGEST_S:
            raise DataSetError(
                f"{url}: not whole after {LONGEST_S / 60:.0f} minutes, and nothing of it was kept; fetch it again, or "
                f"{_BY_HAND}"
            )
        if now - window_began > WINDOW_S:
            if n_bytes - in_window < LEAST_SPEED * WINDOW_S:
                raise DataSetError(
                    f"{url}: sends less than {LEAST_SPEED} bytes a second, and nothing of it was kept; fetch it again, "
                    f"or {_BY_HAND}"
                )
            window_began, in_window = now, n_bytes


def _run(transfer: _Transfer, url: str, path: Path, largest: int) -> None:
    try:
        _read(transfer, url, path, largest)
    except BaseException as error:  # told by the thread that waits
        transfer.error = error
    finally:
        transfer.done.set()


def _read(transfer: _Transfer, url: str, path: Path, largest: int) -> None:
    """Follow the redirects and write the body."""
    import requests

    with requests.Session() as session:
        response = _answer(session, url)
        with response, path.open("wb") as file:
            if response.status_code != 200:
                answer = f"{response.status_code} {response.reason or ''}".strip()
                raise DataSetError(
                    f"{url}: the server answers {answer}; check the address of the mirror, or {_BY_HAND}"
                )
            if (coding := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
                raise DataSetError(f"{url}: comes packed as {coding}, which was not asked for; {_BY_HAND}")
            transfer.total = expected = _announced(url, response, largest)
            digest = hashlib.sha256()
            while not transfer.given_up.is_set() and (piece := response.raw.read1(_CHUNK)):
                transfer.n_bytes += len(piece)
                if transfer.n_bytes > largest:
                    raise _too_large(url, f"more than {largest:,}", largest)
                digest.update(piece)
                file.write(piece)
            if expected and transfer.n_bytes != expected:
                raise DataSetError(f"{url}: the download broke off, and nothing of it was kept; fetch it again")
            transfer.sha256 = digest.hexdigest()


def _answer(session: Any, url: str) -> Any:
    """The last answer of a chain of redirects."""
    address = url
    for _ in range(REDIRECTS + 1):
        response = session.get(
            address,
            stream=True,
            allow_redirects=False,
            timeout=TIMEOUT_S,
            headers={"Accept-Encoding": "identity", "Connection": "close"},
        )
        if not response.is_redirect:
            return response
        target = urljoin(address, response.headers["location"])
        response.close()
        if not _may_lead(urlsplit(address), urlsplit(target)):
            raise DataSetError(
                f"{url}: leads on to {target}, but may only to https of another machine; nothing was fetched: check "
                f"the address, or {_BY_HAND}"
            )
        address = target
    raise DataSetError(f"{url}: leads on and on, more than {REDIRECTS} times; check the address, or {_BY_HAND}")


def _may_lead(source: SplitResult, target: SplitResult) -> bool:
    """Whether a redirect is followed: to https of another machine, or to the same server of this one."""
    if _is_here(target):
        return (source.scheme, source.netloc) == (target.scheme, target.netloc)
    return target.scheme == "https" and bool(target.hostname)


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    if not is_address:
        raise DataSetError(f"{url}: no address to fetch from; give one like https://host/folder")
    if parts.scheme == "http" and not _is_here(parts):
        raise DataSetError(
            f"{url}: http can be read and changed on its way; give the mirror's https address, or {_BY_HAND}"
        )


def _is_here(parts: SplitResult) -> bool:
    """Whether an address is of this machine."""
    host = (parts.hostname or "").rstrip(".")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _announced(url: str, response: Any, largest: int) -> int:
    """How many bytes the server says will come; 0 where it says nothing.

    Raises:
        DataSetError: no number, or too many.
    """
    announced = response.headers.get("Content-Length")
    if announced is None or "chunked" in response.headers.get("Transfer-Encoding", "").lower():
        return 0
    if not (announced.isascii() and announced.isdigit() and len(announced) < 20):
        raise DataSetError(f"{url}: announces {announced[:40]!r} bytes, which is no length; {_BY_HAND}")
    if int(announced) > largest:
        raise _too_large(url, f"{int(announced):,}", largest)
    return int(announced)


def _too_large(url: str, found: str, largest: int) -> DataSetError:
    return DataSetError(
        f"{url}: has {found} bytes, where the official file has at most {largest:,}; nothing of it was kept"
    )


def _raise_for(url: str, error: BaseException) -> NoReturn:
    """One sentence for what went wrong on the way."""
    import requests
    import urllib3

    if isinstance(error, ValueError):  # what requests raises for an address that is none
        raise DataSetError(f"{url}: no address to fetch from; give one like https://host/folder") from error
    if isinstance(error, requests.Timeout | requests.ConnectionError):
        raise DataSetError(
            f"{url}: no connection; check the network or give a mirror's `base_url`, or {_BY_HAND}"
        ) from error
    if isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError):
        raise DataSetError(f"{url}: the download broke off, and nothing of it was kept; fetch it again") from error
    raise error  # a file that cannot be written, or a sentence already
