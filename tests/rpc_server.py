"""An RPC server of llama.cpp on this machine, started through the library itself; and stock llama.cpp's way to it."""

from __future__ import annotations

import ctypes
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import llama_cpp

from steercpp.errors import EngineError
from steercpp.rpc import check_servers

PATIENCE_S = 60.0  # for a start on a busy machine
CPU_DEVICE = 0  # enum ggml_backend_dev_type

# The child's whole program: argv names the endpoint and how many devices it offers, each the CPU with one thread.
_SERVE = """
import ctypes, sys
sys.path.insert(0, sys.argv[3])
from rpc_server import function, library, CPU_DEVICE
ggml = library()
start = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)
)(function(ggml, "ggml_backend_rpc_start_server"))
n_devices = int(sys.argv[2])
cpu = ggml.ggml_backend_dev_by_type(CPU_DEVICE)
start(sys.argv[1].encode(), None, 1, n_devices, (ctypes.c_void_p * n_devices)(*[cpu] * n_devices))
"""


def library() -> ctypes.CDLL:
    """The libggml that llama_cpp has loaded, with the functions below."""
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    ggml = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / f"libggml{suffix}"))
    pointer = ctypes.c_void_p
    for name, result, arguments in (
        ("ggml_backend_reg_by_name", pointer, [ctypes.c_char_p]),
        ("ggml_backend_reg_get_proc_address", pointer, [pointer, ctypes.c_char_p]),
        ("ggml_backend_reg_dev_count", ctypes.c_size_t, [pointer]),
        ("ggml_backend_reg_dev_get", pointer, [pointer, ctypes.c_size_t]),
        ("ggml_backend_dev_by_type", pointer, [ctypes.c_int]),
        ("ggml_backend_register", None, [pointer]),
    ):
        declared = getattr(ggml, name)
        declared.restype, declared.argtypes = result, arguments
    return ggml


def function(ggml: ctypes.CDLL, name: str) -> int:
    """Address of a function of the RPC backend."""
    registry = ggml.ggml_backend_reg_by_name(b"RPC")
    assert registry, "this llama.cpp has no RPC backend"
    address: int = ggml.ggml_backend_reg_get_proc_address(registry, name.encode())
    return address


def server_registry(server: str) -> int:
    """ggml's registry of a server's devices; one and the same for all who ask in this process."""
    ggml = library()
    add = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(function(ggml, "ggml_backend_rpc_add_server"))
    registry: int = add(server.encode())
    return registry


def server_devices(*servers: str) -> list[int]:
    """Handles of the servers' devices, for llama_model_params.devices."""
    ggml = library()
    devices: list[int] = []
    for server in servers:
        registry = server_registry(server)
        count = ggml.ggml_backend_reg_dev_count(registry)
        devices += [ggml.ggml_backend_reg_dev_get(registry, place) for place in range(count)]
    return devices


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server process; `address` is its HOST:PORT."""

    def __init__(self, n_devices: int = 1) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        code = [sys.executable, "-c", _SERVE, self.address, str(n_devices), str(Path(__file__).parent)]
        self._process = subprocess.Popen(code, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < end, "the RPC server does not start"
            time.sleep(0.05)

    def _answers(self) -> bool:
        from steercpp import _native

        try:
            check_servers([self.address], protocol=_native.rpc_protocol(), is_held=lambda _: False)
        except EngineError:
            return False
        return True

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def rpc_server(n_devices: int = 1) -> Iterator[str]:
    """The address of a server that runs as long as the context."""
    server = Server(n_devices)
    try:
        yield server.address
    finally:
        server.stop()
