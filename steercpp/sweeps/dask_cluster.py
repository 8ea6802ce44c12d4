"""A Dask cluster as an executor for sweeps; needs the extra `dask`.

    with cluster("tcp://127.0.0.1:8786") as executor:
        sweep(engine, vector, spec, out="runs/refusal", executor=executor)

Dask starts the workers, watches them, and gives to others what a lost one had to do. See docs/cluster.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from steercpp.errors import WorkerError

_PATIENCE_S = 10  # to reach the scheduler, and for its first worker


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """An executor whose workers are a cluster's.

    Args:
        address: of the scheduler, such as "tcp://127.0.0.1:8786".

    Raises:
        WorkerError: Dask is not installed, no scheduler answers there, or it has no workers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise WorkerError(f"{address}: Dask is not installed; pip install 'steercpp[dask]'") from error
    try:
        client = Client(address, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise WorkerError(
            f"{address}: no Dask scheduler answers there; start one with `dask scheduler`, or check the address"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE_S)
        except TimeoutError as error:
            raise WorkerError(
                f"{address}: the scheduler has no workers; start some with `dask worker {address}`"
            ) from error
        yield client.get_executor(pure=False)  # a lost worker's jobs go to others
