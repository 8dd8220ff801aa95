"""Limits of control groups, of both versions: what is read, and which cluster is chosen below."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from labkit import cli
from labkit.engine.embedded import headroom
from labkit.engine.embedded import settings as settings_module
from labkit.engine.embedded.headroom import ended, within_limits
from labkit.engine.embedded.limits import MIB, Limits, limits
from labkit.engine.embedded.record import Record
from labkit.engine.embedded.settings import Settings, fitting
from labkit.engine.progress import Report
from labkit.errors import NotEnoughMemory
from labkit.preflight import check, doctor

GIB = 1 << 30
TOTAL = psutil.virtual_memory().total


def tree(root: Path, files: dict[str, object]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def version_2(root: Path, group: str, files: dict[str, object]) -> Path:
    mount = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup rw"
    return tree(
        root,
        {
            "proc/self/cgroup": f"0::{group}",
            "proc/self/mountinfo": f"22 1 8:1 / / rw - ext4 /dev/a rw\n{mount}",
            **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
        },
    )


def version_1(root: Path, group: str, files: dict[str, object], top: str = "/") -> Path:
    at = "/sys/fs/cgroup"
    mounts = [
        f"32 31 0:29 {top} {at}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
        f"35 31 0:32 {top} {at}/memory rw - cgroup cgroup rw,memory",
        f"40 31 0:37 / {at}/systemd rw - cgroup cgroup rw,name=systemd",
    ]
    groups = [f"4:memory:{group}", f"2:cpu,cpuacct:{group}", f"9:name=systemd:{group}", "0::/"]
    return tree(
        root,
        {
            "proc/self/cgroup": "\n".join(groups),
            "proc/self/mountinfo": "\n".join(mounts),
            **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
        },
    )


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    found = limits(tmp_path)
    assert (found.memory, found.cpus, found.kills) == (None, None, 0)
    assert 0 < found.free < TOTAL
    assert str(found) == ""


def test_version_2_takes_the_tightest_group_of_the_tree(tmp_path: Path) -> None:
    stat = f"anon 1\nfile 9\ninactive_file {3 * MIB}\nactive_file {5 * MIB}"
    found = limits(
        version_2(
            tmp_path,
            "/pods/pod7/session",
            {
                "pods/memory.max": "max",
                "pods/pod7/memory.max": 64 * MIB,
                "pods/pod7/memory.current": 60 * MIB,
                "pods/pod7/memory.stat": stat,
                "pods/pod7/memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 0",
                "pods/pod7/cpu.max": "max 100000",
                "pods/pod7/session/memory.max": 128 * MIB,
                "pods/pod7/session/memory.current": 40 * MIB,
                "pods/pod7/session/cpu.max": "50000 100000",
            },
        )
    )
    assert found == Limits(64 * MIB, 12 * MIB, 0.5, 2), "files count as free"
    assert str(found) == "0,0 Gio de mémoire et 0,5 processeur"


def test_version_2_as_a_container_sees_it(tmp_path: Path) -> None:
    """The group of a container is the root of what it sees."""
    files: dict[str, object] = {"memory.max": 2 * MIB, "memory.current": MIB, "cpu.max": "10 100"}
    assert limits(version_2(tmp_path, "/", files)) == Limits(2 * MIB, MIB, 0.1)


def test_version_1(tmp_path: Path) -> None:
    """The totals count, not what the innermost group has by itself."""
    stat = f"active_file 7\ninactive_file 9\ntotal_inactive_file {MIB}\ntotal_active_file 0"
    found = limits(
        version_1(
            tmp_path,
            "/hub/student",
            {
                "memory/memory.limit_in_bytes": 9223372036854771712,
                "memory/hub/memory.limit_in_bytes": 9223372036854771712,
                "memory/hub/student/memory.limit_in_bytes": 32 * MIB,
                "memory/hub/student/memory.usage_in_bytes": 30 * MIB,
                "memory/hub/student/memory.stat": stat,
                "memory/hub/student/memory.oom_control": "under_oom 0\noom_kill 1",
                "cpu,cpuacct/hub/cpu.cfs_quota_us": -1,
                "cpu,cpuacct/hub/cpu.cfs_period_us": 100000,
                "cpu,cpuacct/hub/student/cpu.cfs_quota_us": 100000,
                "cpu,cpuacct/hub/student/cpu.cfs_period_us": 1000000,
            },
        )
    )
    assert found == Limits(32 * MIB, 3 * MIB, 0.1, 1)


def test_version_1_whose_path_is_the_machines(tmp_path: Path) -> None:
    """A container of version 1 reads a path of the machine's, and sees its own part mounted."""
    files: dict[str, object] = {"memory/memory.limit_in_bytes": 8 * MIB}
    found = limits(version_1(tmp_path, "/docker/abc", files, top="/docker/abc"))
    assert found.memory == 8 * MIB
    assert limits(version_1(tmp_path, "/docker/abc", files, top="/other")).memory == 8 * MIB


@pytest.mark.parametrize("limit", [TOTAL, 4 * TOTAL, "max", "", "x"])
def test_a_limit_that_binds_nobody_is_none(tmp_path: Path, limit: object) -> None:
    found = limits(version_2(tmp_path, "/", {"memory.max": limit, "cpu.max": "max 100000"}))
    assert (found.memory, found.cpus) == (None, None)


@pytest.mark.parametrize("line", ["x", "0::/../..", "0::relative", "12:memory:/a:b"])
def test_an_odd_group_ends_nothing(tmp_path: Path, line: str) -> None:
    version_2(tmp_path, "/", {"memory.max": MIB})
    (tmp_path / "proc/self/cgroup").write_text(f"{line}\n")
    assert limits(tmp_path).memory in {None, MIB}


# Which cluster


@pytest.mark.parametrize(
    "mebibytes, nodes, memory",
    [
        (None, 3, 0),
        (8192, 3, 0),
        (2048, 3, 0),  # as on mybinder.org
        (1728, 3, 0),
        (1727, 3, 768),
        (1472, 3, 768),
        (1471, 2, 640),
        (1343, 1, 512),
        (1216, 1, 512),
        (1215, 1, 512),  # which is refused
    ],
)
def test_the_cluster_that_fits(mebibytes: int | None, nodes: int, memory: int) -> None:
    limit = None if mebibytes is None else mebibytes * MIB
    assert fitting(Limits(limit, 0), None, 0) == (nodes, memory)


def test_what_is_asked_for_is_not_changed() -> None:
    small = Limits(1500 * MIB, 0)
    assert fitting(small, 5, 0) == (5, 1024), "less memory, but as many nodes"
    assert fitting(small, 3, 1024) == (3, 1024)
    assert fitting(small, None, 600) == (3, 600)
    assert fitting(small, 0, 0)[0] == 0, "which is refused as ever"


@pytest.fixture
def limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Settings as read under a limit of 1000 MiB and half a processor, of which 300 are left."""
    for name in ("LABKIT_NODES", "LABKIT_MEMORY", "LABKIT_CPUS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    allow(monkeypatch, Limits(1000 * MIB, 300 * MIB, 0.5))
    return monkeypatch


def allow(monkeypatch: pytest.MonkeyPatch, found: Limits) -> None:
    for module in (settings_module, headroom, check, doctor):
        monkeypatch.setattr(module, "limits", lambda: found)


def test_too_small_a_server_is_told_before_anything_begins(
    limited: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["up"]) == 1
    said = capsys.readouterr().err
    assert "limité à 0,9 Gio de mémoire et 0,5 processeur" in said
    assert "1 nœud et un notebook en demandent 1,2 Gio" in said
    assert "LABKIT_ENGINE" in said
    assert not (tmp_path / "cache").exists()


def test_too_much_asked_for(limited: pytest.MonkeyPatch) -> None:
    allow(limited, Limits(2 * GIB, GIB))
    Settings.read().check()
    limited.setenv("LABKIT_MEMORY", "1500")
    with pytest.raises(NotEnoughMemory) as caught:
        Settings.read().check()
    assert "LABKIT_MEMORY" in caught.value.remedy
    limited.delenv("LABKIT_MEMORY")
    allow(limited, Limits(1900 * MIB, GIB))
    with pytest.raises(NotEnoughMemory, match="7 nœuds"):
        Settings.read(nodes=7).check()


def test_what_others_hold_is_told_before_the_machine_starts(
    limited: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    allow(limited, Limits(2 * GIB, 300 * MIB, 1.0))
    with pytest.raises(NotEnoughMemory, match="Il reste 0,2 Gio des 2,0 Gio") as caught:
        within_limits(Settings.read(), Report())
    assert "Fermez les notebooks" in caught.value.remedy
    said = capsys.readouterr().out
    assert "limité à 2,0 Gio de mémoire et 1 processeur : cluster de 3 nœuds" in said
    assert "machine de 1024 Mio" in said
    allow(limited, Limits(2 * GIB, 2 * GIB, 1.0, 4))
    assert within_limits(Settings.read(), Report()) == 4
    allow(limited, Limits(None, MIB))
    assert within_limits(Settings.read(), Report()) == 0


def test_a_machine_that_the_kernel_ended(limited: pytest.MonkeyPatch) -> None:
    record = Record("127.80.3", 3, [1, 2, 3], "tcg", kills=1)
    allow(limited, Limits(2 * GIB, GIB, kills=1))
    assert ended("Fini.", record) == "Fini."
    allow(limited, Limits(2 * GIB, GIB, kills=2))
    assert "(2,0 Gio de mémoire) a été dépassée" in ended("Fini.", record)


def test_doctor_names_the_limits(
    limited: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "✔ limites de ce serveur : 0,9 Gio de mémoire et 0,5 processeur" in said
    assert "✘ mémoire libre : 0.3 Go" in said
