"""An RPC server of llama.cpp on this machine, started through the library itself; and stock llama.cpp's way to it."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp

from steercpp.engine.rpc import check_servers
from steercpp.errors import EngineError

PATIENCE_S = 60.0  # for a start on a busy machine
_servers: list[Server] = []  # kept, so that Python does not ask about processes that run on
CPU_DEVICE = 0  # enum ggml_backend_dev_type

# The child's whole program: argv names the endpoint and how many devices it offers, each the CPU with one thread.
_SERVE = """
import ctypes, os, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()
sys.path.insert(0, sys.argv[3])
from rpc_server import CPU_DEVICE, Ggml
ggml = Ggml()
start = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p)
)(ggml.rpc_function("start_server"))
n_devices = int(sys.argv[2])
cpu = ggml.dev_by_type(CPU_DEVICE)
start(sys.argv[1].encode(), None, 1, n_devices, (ctypes.c_void_p * n_devices)(*[cpu] * n_devices))
"""


class Ggml:
    """Functions of the libggml that llama_cpp has loaded: opened by its path, it would be loaded a second time."""

    def __init__(self) -> None:
        pointer = ctypes.c_void_p
        self.reg_by_name = self._declared("reg_by_name", pointer, ctypes.c_char_p)
        self.reg_get_proc_address = self._declared("reg_get_proc_address", pointer, pointer, ctypes.c_char_p)
        self.reg_dev_count = self._declared("reg_dev_count", ctypes.c_size_t, pointer)
        self.reg_dev_get = self._declared("reg_dev_get", pointer, pointer, ctypes.c_size_t)
        self.dev_by_type = self._declared("dev_by_type", pointer, ctypes.c_int)
        self.register = self._declared("register", None, pointer)

    @staticmethod
    def _declared(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        declared = llama_cpp.llama_cpp._lib[f"ggml_backend_{name}"]  # libllama's dependencies are searched, too
        declared.restype, declared.argtypes = result, list(arguments)
        function: Callable[..., Any] = declared
        return function

    def rpc_function(self, name: str) -> int:
        """Address of a function of the RPC backend."""
        registry = self.reg_by_name(b"RPC")
        assert registry, "this llama.cpp has no RPC backend"
        address: int = self.reg_get_proc_address(registry, f"ggml_backend_rpc_{name}".encode())
        return address


def server_registry(server: str) -> int:
    """ggml's registry of a server's devices; one and the same for all who ask in this process."""
    add = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)(Ggml().rpc_function("add_server"))
    registry: int = add(server.encode())
    return registry


def server_devices(*servers: str) -> list[int]:
    """Handles of the servers' devices, for llama_model_params.devices."""
    ggml = Ggml()
    devices: list[int] = []
    for server in servers:
        registry = server_registry(server)
        devices += [ggml.reg_dev_get(registry, place) for place in range(ggml.reg_dev_count(registry))]
    return devices


def _takes_over(_: int, tensor: int) -> bool:
    """`ggml_backend_cuda_device_offload_op` of ggml-cuda.cu: whether weights in host memory are worth being sent."""
    rows = ctypes.c_int64.from_address(tensor + 16 + 8), ctypes.c_int64.from_address(tensor + 16 + 16)  # ne[1], ne[2]
    ggml_op_name = llama_cpp.llama_cpp._lib["ggml_op_name"]
    ggml_op_name.restype, ggml_op_name.argtypes = ctypes.c_char_p, [ctypes.c_int]
    name = ggml_op_name(ctypes.c_int.from_address(tensor + 16 + 64).value)
    n_rows = {b"GET_ROWS": 0, b"MUL_MAT": rows[0].value, b"MUL_MAT_ID": rows[1].value, b"ROPE": rows[1].value}
    return bool(n_rows.get(name, rows[0].value * rows[1].value) >= 32)


_rule = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_void_p)(_takes_over)  # as long as the devices


def take_over_host_weights(server: str) -> None:
    """Let a server's devices compute large batches with weights in host memory, as GPUs do and RPC devices do not."""
    for device in server_devices(server):
        functions = (ctypes.c_void_p * 12).from_address(device)  # ggml_backend_device_i; the last one is offload_op
        functions[11] = ctypes.cast(_rule, ctypes.c_void_p).value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server process; `address` is its HOST:PORT.

    Unless stopped it ends with this process: a model that still is somewhere, perhaps in the frames of a failed test,
    takes the whole process with it when it is freed and its server is gone.
    """

    def __init__(self, n_devices: int = 1) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        code = [sys.executable, "-c", _SERVE, self.address, str(n_devices), str(Path(__file__).parent)]
        until_we_end, _ours = os.pipe()  # the system closes our end; as a file, Python would do so too early
        self._process = subprocess.Popen(code, stdin=until_we_end, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(until_we_end)
        _servers.append(self)
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
