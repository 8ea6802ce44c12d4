"""What a download refuses, from servers on this machine that lie, redirect, trickle and send more than they should."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from places import ROOT

from steercpp.data.sets import download as download_module
from steercpp.data.sets.download import _may_lead, download
from steercpp.data.sets.fetching import DRAFTS, MEMBERS, fetch_set
from steercpp.data.sets.sources import SOURCES, RemoteFile, Source
from steercpp.errors import DataSetError

ROWS = b"goal,target\nDo it,Sure\nDo more,Sure\n"
Answer = Callable[[BaseHTTPRequestHandler], None]


def sends(body: bytes, status: int = 200, *, length: str | None = None, **headers: str) -> Answer:
    """Answers with a body; `length` in place of the true one, "" for none."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        if length != "":
            request.send_header("Content-Length", str(len(body)) if length is None else length)
        request.end_headers()
        request.wfile.write(body)

    return answer


def trickles(before_headers: bool) -> Answer:
    """Sends a byte every 20 ms, for as long as somebody listens."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"" if before_headers else b"Content-Length: 100000\r\n\r\n"))
        while True:
            request.wfile.write(b"x")
            time.sleep(0.02)

    return answer


def never_ends(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        request.wfile.write(b"x" * (1 << 16))


class Server:
    """Gives the answer that its attribute says, to whatever is asked."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answer: Answer = sends(ROWS)
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                with suppress(BrokenPipeError, ConnectionResetError):
                    server.answer(self)
                self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing is told on stderr."""

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that hangs up is no error here."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("STEERCPP_DATA_URL", raising=False)
    made = Server()
    yield made
    made.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, RemoteFile], None]:
    """Makes a set's one file another."""

    def change(name: str, file: RemoteFile) -> None:
        old = SOURCES[name]
        changed = {**SOURCES, name: Source((file,), old.find, old.up, old.folders, old.note)}
        monkeypatch.setattr("steercpp.data.sets.sources.SOURCES", changed)
        monkeypatch.setattr("steercpp.data.sets.fetching.SOURCES", changed)

    return change


def refusal(server: Server, answer: Answer, folder: Path) -> str:
    """What is told where a server answers so; nothing is left."""
    server.answer = answer
    with pytest.raises(DataSetError) as caught:
        fetch_set("advbench", base_url=f"{server.url}/mirror", cache=folder)
    assert not (folder / "advbench").exists() or not [*(folder / "advbench").iterdir()], "something is left"
    assert str(caught.value).startswith(f"{server.url}/mirror/advbench/harmful_behaviors.csv: ")
    return str(caught.value)


def test_what_a_server_may_not_answer(server: Server, small: Callable[[str, RemoteFile], None], tmp_path: Path) -> None:
    small("advbench", RemoteFile("harmful_behaviors.csv", "https://official.invalid/x", (2,), n_bytes=len(ROWS)))
    bomb = gzip.compress(bytes(1 << 24))
    cases = (
        (sends(ROWS + b"x"), f"has {len(ROWS) + 1} bytes, where the official file has at most {len(ROWS)}"),
        (sends(ROWS + b"x", length=""), f"has more than {len(ROWS)} bytes"),
        (never_ends, f"has more than {len(ROWS)} bytes"),
        (sends(ROWS, length="20"), "has 1 rows, the official file 2"),
        (sends(ROWS[:-1], length=str(len(ROWS))), "the download broke off"),
        (sends(ROWS, length="-5"), "announces '-5' bytes, which is no length"),
        (sends(ROWS, length="zz"), "announces 'zz' bytes"),
        (sends(ROWS, length="9" * 30), "which is no length"),
        (sends(ROWS, length="1099511627776"), "has 1,099,511,627,776 bytes"),
        (sends(bomb, Content_Encoding="gzip"), "comes packed as gzip"),
        (sends(bomb, Content_Encoding="br"), "comes packed as br"),
        (sends(b"", 204), "the server answers 204"),
        (sends(ROWS, 206), "the server answers 206"),
        (sends(b"<html>log in</html>"), "is not the official file"),
        (sends(b"", 302, Location="/on"), "leads on and on, more than 5 times"),
        (sends(b"", 302, Location="file:///etc/hostname"), "leads on to file:///etc/hostname"),
        (sends(b"", 301, Location="ftp://127.0.0.1/x"), "leads on to ftp://"),
        (sends(b"", 307, Location="http://127.0.0.1:1/secret"), "leads on to http://127.0.0.1:1/secret"),
        (sends(b"", 308, Location="http://example.invalid/"), "leads on to http://example.invalid/"),
        (sends(b"", 302, Location="//localhost/"), "leads on to http://localhost/"),
        (sends(b"", 302, Location="https://127.0.0.1/"), "leads on to https://127.0.0.1/"),
    )  # fmt: skip
    for answer, expected in cases:
        assert expected in refusal(server, answer, tmp_path), expected


def test_a_redirect_within_the_same_server_is_followed(server: Server, tmp_path: Path) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        sends(ROWS)(request) if request.path == "/there" else sends(b"", 302, Location="/there")(request)

    server.answer = answer
    told: list[tuple[int, int, str]] = []
    download(f"{server.url}/here", tmp_path / "x", largest=100, progress=lambda *now: told.append(now))
    assert (tmp_path / "x").read_bytes() == ROWS and server.asked == ["/here", "/there"]
    assert told[-1] == (len(ROWS), len(ROWS), "x")


@pytest.mark.parametrize(
    ("source", "target", "allowed"),
    [
        ("https://a.org/x", "https://cdn.b.org/y", True),
        ("https://a.org/x", "http://a.org/x", False),
        ("https://a.org/x", "https://127.0.0.1/", False),
        ("https://a.org/x", "https://[::1]/", False),
        ("https://a.org/x", "https://localhost./", False),
        ("https://a.org/x", "file:///etc/passwd", False),
        ("https://a.org/x", "https:///x", False),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000/y", True),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8001/y", False),
        ("http://127.0.0.1:8000/x", "https://a.org/y", True),
        ("http://127.0.0.1:8000/x", "http://a.org/y", False),
    ],
)
def test_where_a_redirect_may_lead(source: str, target: str, allowed: bool) -> None:
    assert _may_lead(urlsplit(source), urlsplit(target)) == allowed


@pytest.mark.parametrize("address", ["http://a.org/x", "http://10.0.0.1/x", "http://127.0.0.1.a.org/x"])
def test_plain_http_of_another_machine_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="http can be read and changed on its way; give the mirror's https address"):
        download(address, tmp_path / "x", largest=1)


@pytest.mark.parametrize(
    "address", ["", "x", "file:///etc/passwd", "https://", "https://a:99999/", "https://[::/", "ftp://a/"]
)
def test_no_address(address: str, tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="no address to fetch from"):
        download(address, tmp_path / "x", largest=1)


@pytest.mark.slow
def test_https_that_leads_to_http_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    openssl = shutil.which("openssl") or pytest.skip("needs openssl")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "1",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    secure = Server(context)
    try:
        assert "its sha256" not in download(f"{secure.url}/x", tmp_path / "x", largest=100)
        secure.answer = sends(b"", 302, Location=f"{server.url}/x")
        with pytest.raises(DataSetError, match=f"leads on to {server.url}/x, but may only to https"):
            download(f"{secure.url}/x", tmp_path / "y", largest=100)
        assert server.asked == []
    finally:
        secure.close()


@pytest.mark.parametrize("before_headers", [False, True])
def test_a_server_that_trickles_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before_headers: bool
) -> None:
    server.answer = trickles(before_headers)
    monkeypatch.setattr(download_module, "WINDOW_S", 0.3)
    with pytest.raises(DataSetError, match="sends less than 1024 bytes a second, and nothing of it was kept"):
        download(f"{server.url}/x", tmp_path / "x", largest=1 << 20)
    monkeypatch.setattr(download_module, "WINDOW_S", 60)
    monkeypatch.setattr(download_module, "LONGEST_S", 0.3)
    with pytest.raises(DataSetError, match="not whole after 0 minutes"):
        download(f"{server.url}/x", tmp_path / "x", largest=1 << 20)


def archive(*members: tuple[str, bytes, dict[str, Any]], mode: str = "w") -> bytes:
    """A tar; of each member its path, content, and attributes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content, changes in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in changes.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return buffer.getvalue()


HOLE = {"GNU.sparse.size": str(1 << 40), "GNU.sparse.map": "0,0"}  # a file that is 1 TiB of nothing
GOOD: list[tuple[str, bytes, dict[str, Any]]] = [
    (f"data/{split}/law_{split}.csv", b"Q?,a,b,c,d,A\n" * 2, {}) for split in ("dev", "val", "test")
]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (archive(*GOOD, ("../../evil.txt", b"x", {})), "'../../evil.txt' lies outside"),
        (archive(*GOOD, ("/etc/evil.txt", b"x", {})), "'/etc/evil.txt' lies outside"),
        (archive(*GOOD, ("data/test/../../evil_test.csv", b"x", {})), "lies outside"),
        (archive(*GOOD, ("data\\..\\evil.csv", b"x", {})), "lies outside"),
        (archive(*GOOD, ("C:evil.csv", b"x", {})), "lies outside"),
        (archive(("data/test", b"", {"type": tarfile.SYMTYPE, "linkname": "/tmp"}), *GOOD), "is a link or a device"),
        (archive(*GOOD, ("data/l", b"", {"type": tarfile.LNKTYPE, "linkname": "data"})), "is a link or a device"),
        (archive(*GOOD, ("data/f", b"", {"type": tarfile.FIFOTYPE})), "is a link or a device"),
        (archive(*GOOD, ("data/c", b"", {"type": tarfile.CHRTYPE})), "is a link or a device"),
        (archive(*GOOD, mode="w:gz"), "no tar archive"),
        (archive(*GOOD, mode="w:xz"), "no tar archive"),
        (archive(*GOOD)[:520], "no tar archive, or cut off"),
        (archive(("a", b"", {}))[:512] * (MEMBERS + 1), "has more than 10,000 members"),
        (archive(("data/test/s_test.csv", b"x", {"pax_headers": HOLE})), "unpacks to more than 256 MiB"),
        (archive(("data/test/p_test.csv", b"x", {"pax_headers": {"path": "../../../p_test.csv"}})), "lies outside"),
    ],
)  # fmt: skip
def test_archives_that_are_refused(
    server: Server, small: Callable[[str, RemoteFile], None], tmp_path: Path, content: bytes, expected: str
) -> None:
    small("mmlu", RemoteFile("data.tar", "https://official.invalid/data.tar", (2,)))
    server.answer = sends(content)
    with pytest.raises(DataSetError) as caught:
        fetch_set("mmlu", base_url=server.url, cache=tmp_path)
    assert expected in str(caught.value) and "nothing of it was kept" in str(caught.value)
    assert not (tmp_path / "mmlu").exists()
    server.answer = sends(archive(*GOOD))
    assert fetch_set("mmlu", base_url=server.url, cache=tmp_path).path == tmp_path / "mmlu"


@pytest.mark.slow
def test_what_a_killed_command_left_is_deleted_by_the_next(server: Server, tmp_path: Path) -> None:
    server.answer = trickles(before_headers=False)
    command = [sys.executable, "-m", "steercpp.cli.main", "data", "get", "stereoset"]
    process = subprocess.Popen(
        [*command, "--base-url", server.url, "--cache", str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    home = tmp_path / "stereoset"
    while not any(home.glob(f"{DRAFTS}*/*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len([*home.glob(f"{DRAFTS}*")]) == 1
    server.answer = sends(b"{}")
    with pytest.raises(DataSetError, match="the file has changed or was damaged"):
        fetch_set("stereoset", base_url=server.url, cache=tmp_path)
    assert not [*home.glob(f"{DRAFTS}*")] if home.exists() else True


def test_addresses_name_a_commit_and_files_a_hash() -> None:
    for name, source in SOURCES.items():
        for file in source.files:
            assert name == "mmlu" or re.search("/[0-9a-f]{40}/", file.url), file.url
            assert file.url.startswith("https://")
            assert re.fullmatch("[0-9a-f]{64}", file.sha256 or ""), file.path
