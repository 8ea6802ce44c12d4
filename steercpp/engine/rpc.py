"""Whether an RPC server can be used, asked before llama.cpp connects: it ends the process where it cannot.

llama.cpp connects without a time limit, and aborts on a refused connection and on a server of another version. So its
greeting is sent first, and its answer read, on a connection of our own. Source: ggml/src/ggml-rpc/ggml-rpc.cpp of
llama.cpp 0.5.0, RPC_CMD_HELLO: a byte for the command, the size as uint64 (little endian), 24 bytes of capabilities;
back come the size, three bytes of version, one of padding and 24 of capabilities.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from steercpp.engine.devices import split_address
from steercpp.errors import EngineError, InputError

PATIENCE_S = 10.0  # for connecting, and for the answer
_HELLO = struct.pack("<BQ24x", 14, 24)
_ANSWER = struct.Struct("<QBBBx24x")
_LOADING = threading.Lock()  # a question to a server that another thread is about to hold would find no answer


@contextmanager
def connectable(servers: Sequence[str], *, protocol: tuple[int, int], is_held: Callable[[str], bool]) -> Iterator[None]:
    """While a model is loaded: `check_servers` first, and no other thread between that and the loading.

    Raises:
        InputError, EngineError: as `check_servers`.
    """
    if not servers:
        yield
        return
    with _LOADING:
        check_servers(servers, protocol=protocol, is_held=is_held)
        yield


def check_servers(
    servers: Sequence[str], *, protocol: tuple[int, int], is_held: Callable[[str], bool], patience_s: float = PATIENCE_S
) -> None:
    """Do nothing where llama.cpp can connect to every server.

    Args:
        servers: "HOST:PORT" each.
        protocol: major and minor version that this build of llama.cpp speaks.
        is_held: whether this process has the server's one connection already, which it then shares: such a server
            answers no second one and is not asked.
        patience_s: seconds to wait for a connection, and again for an answer.

    Raises:
        InputError: a host that has no IPv4 address, or one server under two names.
        EngineError: a server that cannot be reached, does not answer, or speaks another version.
    """
    places: dict[tuple[str, int], str] = {}
    for server in servers:
        place = _resolved(server)
        if place in places:
            raise InputError(f"rpc servers {places[place]} and {server} are one and the same; give it once")
        places[place] = server
    for place, server in places.items():
        if not is_held(server):
            _greet(server, place, protocol, patience_s)


def _resolved(server: str) -> tuple[str, int]:
    host, port = split_address(server)
    try:
        return socket.gethostbyname(host), port
    except (OSError, UnicodeError) as error:
        raise InputError(f"rpc server {server}: no IPv4 address is found for {host}; check the name") from error


def _greet(server: str, place: tuple[str, int], protocol: tuple[int, int], patience_s: float) -> None:
    try:
        connection = socket.create_connection(place, timeout=patience_s)
    except OSError as error:
        reason = error.strerror or str(error)
        raise EngineError(
            f"rpc server {server} cannot be reached: {reason}; start llama.cpp's rpc-server there, or check the port"
        ) from error
    with connection:
        try:
            connection.sendall(_HELLO)
            answer = _received(connection, _ANSWER.size)
        except TimeoutError as error:
            raise EngineError(
                f"rpc server {server} does not answer within {patience_s:g} s; it serves one client at a time: end the "
                "other, or start one more server"
            ) from error
        except OSError:
            answer = b""
    size, major, minor, _ = _ANSWER.unpack(answer) if len(answer) == _ANSWER.size else (0, 0, 0, 0)
    if size != _ANSWER.size - 8:
        raise EngineError(
            f"rpc server {server} does not speak llama.cpp's RPC {_version(protocol)}; start the rpc-server of the "
            "llama.cpp that is installed here"
        )
    if major != protocol[0] or minor > protocol[1]:
        raise EngineError(
            f"rpc server {server} speaks llama.cpp's RPC {_version((major, minor))}, not {_version(protocol)}; use one "
            "version of llama.cpp on all machines"
        )


def _received(connection: socket.socket, n_bytes: int) -> bytes:
    """So many bytes, or fewer where the other side ends the connection."""
    received = b""
    while len(received) < n_bytes:
        data = connection.recv(n_bytes - len(received))
        if not data:
            break
        received += data
    return received


def _version(protocol: tuple[int, int]) -> str:
    return f"{protocol[0]}.{protocol[1]}"
