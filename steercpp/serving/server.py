"""Runs a server: its socket, its service and its end; read this for what happens at Ctrl-C.

At the first signal nothing new is taken, and what is in work has `grace_s` to end. At the second it is given up.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from ipaddress import ip_address

import uvicorn

from steercpp.errors import InputError
from steercpp.serving.app import make_app
from steercpp.serving.service import LOOPBACK, Service


def is_loopback(host: str) -> bool:
    """Whether an address is reached by this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host in LOOPBACK:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0 takes a free one.

    Raises:
        InputError: the port is taken, or the address is not this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(f"{host}: is no address of this machine ({error}); give another one with `host`") from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(512)  # at once, so that two servers of one port do not both begin
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            problem, step = "another program listens there", "end that, or choose another port with `port`"
        elif error.errno == errno.EACCES:
            problem, step = "this user may not listen there", "choose a `port` above 1023"
        else:
            problem, step = error.strerror or str(error), "choose another `host` or `port`"
        raise InputError(f"{host}:{port}: {problem}; {step}") from error
    return made


class Server(uvicorn.Server):
    """A server of one service on a socket; `run` serves until a signal comes, `should_exit` ends it elsewhere.

    Args:
        service: what is served; closed at the end.
        sock: where.
        on_ready: called once requests are taken.
    """

    def __init__(self, service: Service, sock: socket.socket, on_ready: Callable[[], None] = lambda: None) -> None:
        self._service, self._socket, self._on_ready = service, sock, on_ready
        grace = max(1, round(service.options.grace_s))
        super().__init__(
            uvicorn.Config(
                make_app(service), log_config=None, access_log=False, lifespan="off", server_header=False,
                timeout_graceful_shutdown=grace, timeout_keep_alive=30, ws="none",
            )
        )  # fmt: skip

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the server is ended, then close the service."""
        try:
            super().run(sockets or [self._socket])
        finally:
            self._service.close()
            self._socket.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take requests."""
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, and wait for those in work."""
        self._service.scheduler.refuse_new()
        await super().shutdown(sockets)
