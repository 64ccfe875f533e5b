"""The entry point `nova`. It imports next to nothing at first, so that from then on a Ctrl-C ends it in order."""

from __future__ import annotations

from nova.cli import interrupt


def main() -> None:
    with interrupt.calls(interrupt.leave, restore=False):
        from nova.cli.app import app  # the slow part of a start

        app()
