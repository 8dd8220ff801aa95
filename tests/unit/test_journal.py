"""The log of an engine, read from lines as Docker Engine 26.1 wrote them on the embedded nodes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from labkit.engine.embedded.logs import ELECTION, Log, moment, parse
from labkit.errors import SettingError

LEADS = (
    'time="2026-11-24T09:08:09.249150556Z" level=info '
    'msg="59d1f876374e253f became leader at term 3" module=raft node.id=9zeuu9zdnj8vjrr329qi'
)
MEMBERS = {"59d1f876374e253f": "node3", "44246f04f96b8582": "node1"}


def test_a_member_of_raft_has_its_node_s_name() -> None:
    line = parse(LEADS, MEMBERS)
    assert line.text == "59d1f876374e253f (node3) became leader at term 3"
    assert (line.level, line.module) == ("info", "raft")
    assert line.when == datetime(2026, 11, 24, 9, 8, 9, 249150, UTC)
    assert str(line).endswith("info    raft: 59d1f876374e253f (node3) became leader at term 3")
    assert "(" not in parse(LEADS, {}).text


def test_no_secret_comes_through() -> None:
    keys = "Keys:[[181 160 209] [94 110 117] [250 204 16]] PacketBufferSize:1400"
    line = parse(f'time="2026-11-24T08:45:28Z" level=info msg="config:&{{{keys}}}"', {})
    assert "181" not in line.text and "16" not in line.text and "PacketBufferSize" in line.text
    token = "SWMTKN-1-0a1b2c-3d4e5f"
    for raw in (f"join with {token}", f'time="2026-11-24T08:45:28Z" level=info msg="{token}"'):
        assert "0a1b2c" not in str(parse(raw, {}))


def test_what_the_engine_quotes_and_what_is_not_its_own() -> None:
    line = parse(
        'time="2026-11-24T08:45:32Z" level=error msg="pulling image failed" '
        'error="Get \\"https://hub/v2/\\": refused" module=node/agent/taskmanager',
        {},
    )
    assert line.text == 'pulling image failed : Get "https://hub/v2/": refused'
    assert parse("panic: oh", {}).when is None and str(parse("panic: oh", {})) == "panic: oh"
    odd = parse('time="2026-11-24T08:45:32Z" level=info msg="a\\x00b"', {})
    assert odd.text == "a\\x00b"


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("59d1f876374e253f is starting a new election at term 2", True),
        ("59d1f876374e253f became candidate at term 3", True),
        ("59d1f876374e253f received MsgVoteResp from 59d1f876374e253f at term 3", True),
        ("raft.node: 59d1f876374e253f lost leader 44246f04f96b8582 at term 3", True),
        ("raft.node: 59d1f876374e253f elected leader 59d1f876374e253f at term 3", True),
        ("59d1f876374e253f switched to configuration voters=(4910171560895808898)", False),
        ("Node 51a19be90f43 change state NodeFailed --> NodeLeft", False),
        ("dispatcher starting", False),
    ],
)
def test_what_tells_of_an_election(text: str, tells: bool) -> None:
    assert bool(re.search(ELECTION, text)) is tells


def test_when() -> None:
    now = datetime.now(UTC)
    for text, ago in (("90s", 90), ("10m", 600), ("2h", 7200), ("1j", 86400)):
        found = moment(text)
        assert found is not None
        assert abs((now - found).total_seconds() - ago) < 5
    assert moment(None) is None
    assert moment(timedelta(seconds=5)) > now - timedelta(seconds=6)
    local = moment("2026-01-31T14:05")
    assert local is not None and local == datetime(2026, 1, 31, 14, 5).astimezone()
    with pytest.raises(SettingError, match="hier") as caught:
        moment("hier")
    assert "10m" in caught.value.remedy


def test_a_log_is_read_as_text() -> None:
    assert str(Log("node2", ())) == "node2 : rien dans le journal."
    assert "seuls les managers votent" in str(Log("node2", (), election=True))
    log = Log("node3", (parse(LEADS, MEMBERS),))
    assert "became leader" in str(log) and len(log) == 1 and "became" not in repr(log)
