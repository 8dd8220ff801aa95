"""What docker says when an everyday command fails is followed by the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit.hints import way_out

# -- what docker says -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "way"),
    [
        ("rpc error: code = InvalidArgument desc = only updates to Labels are allowed", "nouveau"),
        ("the input device is not a TTY", "terminal"),
        ("Error response from daemon: node node3 is ambiguous (2 matches found)", "docker node rm"),
        ("Swarm is encrypted and needs to be unlocked before it can be used.", "swarm unlock"),
        ("Error response from daemon: service web not found", ""),
    ],
)
def test_the_way_out_of_what_docker_says(said: str, way: str) -> None:
    assert way in way_out(said) if way else not way_out(said)


def test_a_file_of_variables_is_not_read_by_stacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = "invalid reference format"
    assert not way_out(said)
    (tmp_path / ".env").write_text("TAG=3\n")
    assert "set -a; . ./.env; set +a" in way_out(said)
