"""Logs that stay small while others append to them, and what is written counts."""

import os
import tempfile
import time
from pathlib import Path

import pytest

from labkit.engine.embedded import agent
from labkit.engine.embedded.upkeep import KEPT, LONGEST, lateness, shorten, written


def test_a_log_keeps_its_end_while_a_process_appends(tmp_path: Path) -> None:
    path = tmp_path / "console"
    with path.open("ab", buffering=0) as log:
        log.write(b"first\n")
        shorten(path)
        assert path.read_bytes() == b"first\n"
        while path.stat().st_size <= LONGEST:
            log.write(b"one more line\n" * 1000)
        log.write(b"the last\n")
        shorten(path)
        assert path.stat().st_size <= KEPT
        log.write(b"after\n")
    lines = path.read_bytes().splitlines()
    assert lines[0] == b"one more line"
    assert lines[-2:] == [b"the last", b"after"]


def test_a_disk_without_a_name_counts(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "data").write_bytes(bytes(1 << 20))
    before = written(tmp_path, os.getpid())
    with tempfile.TemporaryFile(dir=tmp_path / "tmp", buffering=0) as unnamed:
        unnamed.write(os.urandom(2 << 20))
        assert written(tmp_path, os.getpid()) >= before + (2 << 20)
    assert 1 << 20 <= before < 2 << 20


def test_an_answer_that_takes_its_time_moves_no_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(early: float, wait: float) -> float:
        now = [1000.0]

        def there(line: object, timeout: float) -> float:
            now[0] += wait  # as long before the answer as after it
            said = now[0] + early
            now[0] += wait
            return said

        monkeypatch.setattr(time, "time", lambda: now[0])
        monkeypatch.setattr(agent, "tell_time", there)
        return lateness(tmp_path)

    assert asked(0, 30) == 0
    assert asked(-100, 0) == 100
    assert asked(-100, 30) == 70
    assert asked(100, 30) == -70
