"""Show the progress of commands that take more than two seconds."""

from __future__ import annotations

import sys

from tqdm.auto import tqdm


class Report:
    """Shows steps, and a bar in bytes while files are fetched; silent when ``quiet``."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._bar: tqdm | None = None  # type: ignore[type-arg]

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *_: object) -> None:
        self.done()

    def step(self, text: str) -> None:
        """Say what begins now."""
        self.done()
        if not self.quiet:
            tqdm.write(f"… {text}")
            sys.stdout.flush()  # a log shows where it is

    def bytes(self, done: int, total: int) -> None:
        """Say how many bytes of how many are there."""
        if self.quiet:
            return
        if self._bar is None:
            self._bar = tqdm(
                total=total, unit="o", unit_scale=True, desc="Paquets", mininterval=0.5
            )
        self._bar.update(done - self._bar.n)

    def done(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
