"""The guest agent's line, with a scripted agent at the other end of real pipes."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.engine.embedded import agent
from labkit.errors import MachineFailed

Answer = Callable[[str, dict[str, Any]], object]


class Agent:
    """Takes lines from one pipe and answers on the other, as the guest's does."""

    def __init__(self, run: Path) -> None:
        self.read = os.open(run / "agent.in", os.O_RDWR)
        self.write = os.open(run / "agent.out", os.O_RDWR)
        self.longest = self.deaf = 0
        self.files: dict[str, bytes] = {}
        self.ran: list[str] = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        kept = b""
        while block := os.read(self.read, 1 << 16):
            *lines, kept = (kept + block).split(b"\n")
            for line in lines:
                self.longest = max(self.longest, len(line))
                asked = json.loads(line.removeprefix(b"\xff"))
                if asked["execute"] == "guest-sync" and self.deaf:
                    self.deaf -= 1
                    continue
                os.write(self.write, json.dumps(self.answer(**asked)).encode() + b"\n")

    def answer(self, execute: str, arguments: dict[str, Any]) -> dict[str, object]:
        if execute == "guest-sync":
            return {"return": arguments["id"]}
        if execute == "guest-file-open":
            self.files[arguments["path"]] = b""
            return {"return": 7}
        if execute == "guest-file-write":
            (path,) = self.files
            self.files[path] += base64.b64decode(arguments["buf-b64"])
            return {"return": {}}
        if execute == "guest-exec":
            self.ran.append(self.files.pop(arguments["arg"][0]).decode())
            return {"return": {"pid": 9}}
        if execute == "guest-exec-status":
            out = base64.b64encode("été".encode()).decode()
            return {"return": {"exited": True, "exitcode": 0, "out-data": out}}
        if execute == "guest-get-time":
            return {"error": {"class": "GenericError", "desc": "no clock"}}
        return {"return": {}}


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Agent]:
    for pipe in ("agent.in", "agent.out"):
        os.mkfifo(tmp_path / pipe)
    yield Agent(tmp_path)


def test_a_long_script_goes_in_pieces(there: Agent, tmp_path: Path) -> None:
    script = "true # " + "x" * 20_000
    assert agent.run_shell(agent.over_pipes(tmp_path), script) == "été"
    (ran,) = there.ran
    assert ran.endswith(f"\n{script}") and ran.startswith("rm /run/agent-")
    assert there.longest < 4000  # what a terminal takes in at once


def test_what_is_lost_while_the_agent_starts_is_asked_again(
    there: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "AGAIN", 0.05)
    there.deaf = 2
    assert agent.run_shell(agent.over_pipes(tmp_path), "true") == "été"


def test_answers_that_nobody_waited_for_are_passed_over(there: Agent, tmp_path: Path) -> None:
    os.write(there.write, b'urn": 3}\n{"return": {"pid": 1}}\n["?"]\n')
    assert agent.run_shell(agent.over_pipes(tmp_path), "true") == "été"


def test_two_callers_take_turns(there: Agent, tmp_path: Path) -> None:
    said: list[str] = []

    def call() -> None:
        said.append(agent.run_shell(agent.over_pipes(tmp_path), "true"))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)
    assert said == ["été"] * 4


def test_a_refusal_and_a_silence_are_errors(there: Agent, tmp_path: Path) -> None:
    with pytest.raises(MachineFailed, match="no clock"):
        agent.tell_time(agent.over_pipes(tmp_path))
    there.deaf = 1 << 30
    with pytest.raises(MachineFailed, match="ne répond pas"):
        agent.run_shell(agent.over_pipes(tmp_path), "true", 0.3)

    def ended() -> None:
        raise MachineFailed("it ended")

    with pytest.raises(MachineFailed, match="it ended"):  # at once, not when patience is over
        agent.run_shell(agent.over_pipes(tmp_path, ended), "true", 60)
    with pytest.raises(MachineFailed, match="ne répond pas"):
        agent.tell_time(agent.over_socket(tmp_path / "nothing"), 0.3)
