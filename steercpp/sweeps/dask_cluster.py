"""A Dask cluster as an executor for sweeps; needs the extra `dask`.

    with cluster("tcp://127.0.0.1:8786") as executor:
        sweep(engine, vector, spec, out="runs/refusal", executor=executor)

Dask starts the workers, watches them, and gives to others what a lost one had to do. See docs/cluster.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from steercpp.errors import WorkerError

_PATIENCE_S = 10  # to reach the scheduler, and for its first worker


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """An executor whose workers are a cluster's.

    Args:
        address: of the scheduler, such as "tcp://127.0.0.1:8786".

    Raises:
        WorkerError: Dask is not installed; it is no address; no scheduler answers there within 10 seconds, or one of
            another version, or something else; it has no workers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise WorkerError(f"{address}: Dask is not installed; pip install 'steercpp[dask]'") from error
    _check_address(address)
    with ThreadPoolExecutor(1) as aside:  # this thread may have an event loop that runs, as in a notebook
        aside.submit(asyncio.run, _check_scheduler(address)).result()
    try:
        client = Client(address, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise _silent(address) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE_S)
        except TimeoutError as error:
            raise WorkerError(
                f"{address}: the scheduler has no workers; start some with `dask worker {address}`"
            ) from error
        yield client.get_executor(pure=False)  # a lost worker's jobs go to others


def _check_address(address: str) -> None:
    """See that an address names a host and a port in a way that Dask knows.

    Raises:
        WorkerError: it does not.
    """
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import backends

    try:
        scheme, place = parse_address(address)
        host, port = parse_host_port(place)
        if scheme in backends and host and 0 < int(port) < 2**16:
            return
    except (ValueError, TypeError):
        pass
    raise WorkerError(
        f"{address}: this is not the address of a Dask scheduler; give tcp://HOST:PORT, or tls://HOST:PORT where it "
        "has certificates"
    )


async def _check_scheduler(address: str) -> None:
    """See that a scheduler of our version answers, within `_PATIENCE_S`; Dask's client waits for ever for what is none.

    Raises:
        WorkerError: it does not.
    """
    import distributed

    try:
        found = await asyncio.wait_for(_asked(address), _PATIENCE_S)
        version = found["packages"]["distributed"]
    except Exception as error:  # who is no scheduler may answer anything
        raise _silent(address) from error
    if version != distributed.__version__:
        raise WorkerError(
            f"{address}: the scheduler has version {version} of Dask's distributed, and this process "
            f"{distributed.__version__}; install the same version on all machines"
        )


async def _asked(address: str) -> dict[str, Any]:
    """The versions that a scheduler has, as it tells them."""
    from distributed.comm import connect
    from distributed.core import send_recv
    from distributed.security import Security

    comm = await connect(address, timeout=_PATIENCE_S, **Security().get_connection_args("client"))
    try:
        if (await send_recv(comm, op="identity"))["type"] != "Scheduler":
            raise OSError("it is not a scheduler")
        found: dict[str, Any] = await send_recv(comm, op="versions")
        return found
    finally:
        comm.abort()


def _silent(address: str) -> WorkerError:
    return WorkerError(
        f"{address}: no Dask scheduler answers there; start one with `dask scheduler`, or check the address"
    )
