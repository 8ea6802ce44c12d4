"""The program of a process that serves its CPU to others: python -m steercpp.bench.rpc_process HOST:PORT.

llama.cpp's own rpc-server does the same; this one needs no tool beside llama-cpp-python. It ends with its stdin.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp

from steercpp.engine.devices import split_address
from steercpp.errors import EngineError

_CPU = 0  # enum ggml_backend_dev_type
_PATIENCE_S = 60.0  # for a start on a busy machine


@contextmanager
def server() -> Iterator[str]:
    """The HOST:PORT of a server with one thread, on this machine, for as long as the block lasts.

    Raises:
        EngineError: it does not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "steercpp.bench.rpc_process", address]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip
    try:
        _wait(process, address)
        yield address
    finally:
        process.kill()
        process.communicate()


def _wait(process: subprocess.Popen[bytes], address: str) -> None:
    host, port = split_address(address)
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            socket.create_connection((host, port), timeout=1.0).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > end:
                raise EngineError(f"the RPC server of the benchmark does not start: {error}") from error
            time.sleep(0.05)
        else:
            return


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A function of the libggml that llama_cpp has loaded, which libllama depends on."""
    function = llama_cpp.llama_cpp._lib[name]
    function.restype, function.argtypes = result, list(arguments)
    found: Callable[..., Any] = function
    return found


def _serve(address: str) -> None:
    pointer = ctypes.c_void_p
    registry = _function("ggml_backend_reg_by_name", pointer, ctypes.c_char_p)(b"RPC")
    start = _function("ggml_backend_reg_get_proc_address", pointer, pointer, ctypes.c_char_p)(
        registry, b"ggml_backend_rpc_start_server"
    )
    devices = (pointer * 1)(_function("ggml_backend_dev_by_type", pointer, ctypes.c_int)(_CPU))
    kind = ctypes.CFUNCTYPE(
        None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.POINTER(pointer)
    )
    kind(start)(address.encode(), None, 1, 1, devices)


if __name__ == "__main__":
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()
    _serve(sys.argv[1])
