"""Reads what a command draws on a terminal."""

from __future__ import annotations

import os


def drawn_on(controller: int, until: bytes | None = None) -> bytes:
    """What was drawn there, up to some words or to the end."""
    drawn = b""
    while until is None or until not in drawn:
        try:
            piece = os.read(controller, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            piece = b""
        if not piece:
            assert until is None, drawn.decode()
            break
        drawn += piece
    return drawn
