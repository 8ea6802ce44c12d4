"""Servers that llama.cpp cannot use are found out before it tries, in one sentence each."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from rpc_server import free_port

from steercpp.engine.rpc import check_servers, connectable
from steercpp.errors import EngineError, InputError

GREETING = 1 + 8 + 24  # bytes that a client sends first


def check(*servers: str, held: tuple[str, ...] = (), patience_s: float = 10.0) -> None:
    check_servers(servers, protocol=(7, 0), is_held=lambda server: server in held, patience_s=patience_s)


@contextmanager
def listening(serve: Callable[[socket.socket], None] | None) -> Iterator[str]:
    """An address where a connection is given to `serve`, then closed; None: it is never taken up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def work() -> None:
            assert serve is not None
            connection, _ = listener.accept()
            with connection:
                serve(connection)

        worker = threading.Thread(target=work) if serve is not None else None
        if worker is not None:
            worker.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        if worker is not None:
            worker.join()


def greeting(major: int, minor: int, size: int = 28) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        assert len(connection.recv(GREETING, socket.MSG_WAITALL)) == GREETING
        connection.sendall(struct.pack("<QBBBx", size, major, minor, 0) + bytes(size - 4))

    return serve


def test_a_server_that_answers() -> None:
    with listening(greeting(7, 0)) as server:
        check(server)


@pytest.mark.parametrize("version", [(6, 0), (7, 1), (8, 0)])
def test_a_server_of_another_version(version: tuple[int, int]) -> None:
    words = f"speaks llama.cpp's RPC {version[0]}.{version[1]}, not 7.0; use one version of llama.cpp on all machines"
    with listening(greeting(*version)) as server, pytest.raises(EngineError, match=words):
        check(server)


@pytest.mark.parametrize(
    "serve",
    [
        lambda connection: None,
        lambda connection: connection.recv(GREETING),
        lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n"),
        greeting(7, 0, size=4),
    ],
    ids=["ends at once", "ends after the greeting", "HTTP", "an older greeting"],
)
def test_a_server_of_another_kind(serve: Callable[[socket.socket], None]) -> None:
    with listening(serve) as server, pytest.raises(EngineError, match=r"does not speak llama.cpp's RPC 7\.0"):
        check(server)


def test_a_server_that_serves_another_client() -> None:
    """It takes the connection up only when the other has ended."""
    with listening(None) as server, pytest.raises(EngineError, match="does not answer within 0.1 s; it serves one"):
        check(server, patience_s=0.1)


def test_nobody_listens() -> None:
    server = f"127.0.0.1:{free_port()}"
    with pytest.raises(
        EngineError, match=f"rpc server {server} cannot be reached: Connection refused; start llama.cpp"
    ):
        check(server)


def test_a_name_that_is_none() -> None:
    with pytest.raises(InputError, match=r"rpc server a\.\.b:1: no IPv4 address is found for a\.\.b; check the name"):
        check("a..b:1")


def test_one_server_under_two_names() -> None:
    """The second connection would wait for the first to end, for ever."""
    port = free_port()
    with pytest.raises(InputError, match=f"127.0.0.1:{port} and localhost:{port} are one and the same"):
        check(f"127.0.0.1:{port}", f"localhost:{port}")


def test_a_server_that_this_process_holds_is_not_asked() -> None:
    with listening(None) as server:
        check(server, held=(server,), patience_s=0.1)


def test_without_servers_nothing_is_asked_or_waited_for() -> None:
    with (
        connectable((), protocol=(7, 0), is_held=lambda _: False),
        connectable((), protocol=(7, 0), is_held=lambda _: False),
    ):
        pass
