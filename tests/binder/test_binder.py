"""A Binder session on this machine: built and used under the limits that mybinder.org sets.

``pytest tests/binder``, as root; half an hour, most of it for building. The figures
go to ``artefacts/binder.json``; `binder/instructors.md` has some.
"""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from cage import MIB, Cage, cage, missing, report

MEMORY, CPUS = 2048 * MIB, 1.0
PORT = 8888
LAB = (
    f"binder/start jupyter lab --no-browser --ServerApp.ip=127.0.0.1 --ServerApp.port={PORT} "
    "--IdentityProvider.token= --ServerApp.password="
)
IDLE = 60.0  # s in which what an idle session takes is measured
SETTLING = 180.0  # s after which a stack that was just deployed is at rest
# checks in each
NOTEBOOKS = {"01-introduction-a-swarm.ipynb": 8, "02-la-stack-example-voting-app.ipynb": 7}
CHECK = r"^(?:verifier\(|%%(?:solution|etape) )"  # a cell that ends with one

DRIVERS = {"auto": "", "tcg": "emulated_"}  # what labkit chooses, and emulation beside it

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.timeout(3600),
]


@pytest.fixture(scope="module")
def account() -> Iterator[Cage]:
    with cage() as made:
        yield made


@pytest.fixture
def limited(account: Cage) -> Iterator[Cage]:
    """An account under the limits of a session, with nothing that runs."""
    account.groups.allow(MEMORY, CPUS)
    account.peak = 0
    yield account
    account.groups.empty()


@pytest.fixture
def built(limited: Cage) -> Cage:
    """The same after postBuild, which was run online, under the same limits."""
    if not list(limited.cache.glob("snapshot-*")):
        build(limited)
    return limited


def build(account: Cage) -> None:
    before, began = account.layer()[0], time.monotonic()
    took = account.groups.cpu_seconds
    account.do("binder/postBuild", online=True, timeout=3000)
    layer, disk = account.layer()
    course = sum(p.lstat().st_size for p in account.cache.rglob("*") if p.is_file())
    report(
        {
            "build_seconds": round(time.monotonic() - began),
            "build_cpu_seconds": round(account.groups.cpu_seconds - took),
            "build_peak_mib": account.peak // MIB,
            "image_with_packages_mb": round((layer - before) / 1e6),
            "image_of_the_cluster_mb": round(course / 1e6),
            "image_of_the_cluster_gzip_mb": round(compressed(account.cache) / 1e6),
        }
    )
    assert layer <= 1.5 * disk, "no file of the image is a hole of gigabytes"


def compressed(tree: Path) -> int:
    """Return the bytes of a tree's files as a registry keeps them."""

    class Counted:
        size = 0

        def write(self, data: bytes) -> int:
            self.size += len(data)
            return len(data)

        def flush(self) -> None: ...

    counted = Counted()
    with gzip.GzipFile(fileobj=counted, mode="wb", compresslevel=1) as out:  # type: ignore[call-overload]
        for path in sorted(p for p in tree.rglob("*") if p.is_file()):
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    out.write(block)
    return counted.size


def test_the_limits_are_those_of_a_session(limited: Cage) -> None:
    said = limited.do("grep -E '^(NoNewPrivs|Cap(Eff|Bnd|Prm)|Uid)' /proc/self/status; id -G")
    assert re.search(r"NoNewPrivs:\s+1\n", said)
    assert re.findall(r"Cap\w+:\s+(\w+)", said) == ["0" * 16] * 3
    assert "\t0\t" not in said
    hog = "x = bytearray(3 << 30); print(len(x))"
    code, said = limited.run(f"/usr/bin/python3 -c '{hog}'")
    assert code, "more memory than there is"
    assert limited.groups.kills or "MemoryError" in said
    began, took = time.monotonic(), limited.groups.cpu_seconds
    limited.run("timeout 4 sh -c 'while :; do :; done & while :; do :; done & wait'; true")
    share = (limited.groups.cpu_seconds - took) / (time.monotonic() - began)
    assert share < 1.2, "two busy loops have one processor"


def test_a_session_reaches_nobody_and_a_build_the_registries_alone(limited: Cage) -> None:
    reach = (
        "import socket, sys\n"
        "try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)\n"
        "except OSError as error: sys.exit(str(error))"
    )
    (limited.home / "tmp/reach.py").write_text(reach)
    for address in ("192.0.2.1", "203.0.113.1"):  # of documentation, which nobody has
        code, said = limited.run(f"/usr/bin/python3 /tmp/reach.py {address} 443")
        assert code and "unreachable" in said, said
        code, said = limited.run(f"/usr/bin/python3 /tmp/reach.py {address} 443", online=True)
        assert code and "refused" in said, said


def test_too_small_a_session_is_told_so(built: Cage) -> None:
    """By labkit and at once; the kernel's killer has nothing to do."""
    built.groups.allow(1024 * MIB, CPUS)
    kills = built.groups.kills
    code, said = built.run("labkit up")
    assert code == 1
    assert "Ce serveur est limité à 1,0 Gio de mémoire et 1 processeur" in said
    assert "LABKIT_ENGINE" in said
    assert built.groups.kills == kills


def test_what_others_hold_is_told(built: Cage, tmp_path: Path) -> None:
    """A student with many kernels: the cluster does not start on what is not there."""
    kills = built.groups.kills
    hog = (
        "import time; x = bytearray(b'x') * (900 << 20); print('held', flush=True); time.sleep(99)"
    )
    log = tmp_path / "hog.log"
    with built.background(f'python -c "{hog}"', log):
        until(lambda: "held" in log.read_text(), 30)
        code, said = built.run(
            "[ ! -f ~/.cache/labkit/disks.tar ] || "
            "tar -C ~/.cache/labkit -xf ~/.cache/labkit/disks.tar; labkit up"
        )
    assert code == 1
    assert re.search(r"Il reste \d,\d Gio des 2,0 Gio de mémoire de ce serveur", said), said
    assert "Fermez les notebooks" in said
    assert built.groups.kills == kills


@contextmanager
def session(built: Cage, log: Path, driver: str = "auto") -> Iterator[dict[str, object]]:
    """Start a session, and look at what it says of its limits; gives the figures of its launch."""
    groups, began, took = built.groups, time.monotonic(), built.groups.cpu_seconds
    kills = groups.kills
    up = built.home / "tmp/labkit-up.log"
    up.unlink(missing_ok=True)
    figures: dict[str, object] = {}
    with built.background(f"LABKIT_ACCEL={driver} {LAB}", log):
        until(lambda: built.answers(f"http://127.0.0.1:{PORT}/api/status"), 120)
        figures["lab_answers_seconds"] = round(time.monotonic() - began, 1)
        until(lambda: "swarm : inactive" in up.read_text(), 120)
        figures["cluster_up_seconds"] = round(time.monotonic() - began, 1)
        figures["launch_cpu_seconds"] = round(groups.cpu_seconds - took)
        said = built.do(f"cat /tmp/labkit-up.log; LABKIT_ACCEL={driver} labkit doctor")
        assert "limité à 2,0 Gio de mémoire et 1 processeur : cluster de 3 nœuds" in said
        assert "✘" not in said, said
        yield figures
        figures["held_peak_mib"] = built.peak // MIB
    assert groups.kills == kills, "the kernel's killer"
    assert not groups.processes


@pytest.mark.parametrize("driver", DRIVERS)
def test_two_notebooks_in_a_session(built: Cage, tmp_path: Path, driver: str) -> None:
    """As a student does: the session starts, the notebooks run, every check passes."""
    groups = built.groups
    with session(built, tmp_path / "lab.log", driver) as figures:
        for name, checks in NOTEBOOKS.items():
            before, since = groups.cpu_seconds, time.monotonic()
            built.do(
                f"cd notebooks && LABKIT_ACCEL={driver} "
                f"jupyter execute --timeout=400 {name} --output=ran-{name}",
                timeout=900,
            )
            figures[f"notebook_{name[:2]}_seconds"] = round(time.monotonic() - since)
            figures[f"notebook_{name[:2]}_cpu_seconds"] = round(groups.cpu_seconds - before)
            ran = nbformat.read(built.repo / f"notebooks/ran-{name}", as_version=4)
            assert passed(ran) == checks
        progress = built.do("labkit progress --csv").splitlines()
        assert len(progress) > 10
    report({DRIVERS[driver] + name: figure for name, figure in figures.items()})


def test_a_session_in_which_nobody_does_anything(built: Cage, tmp_path: Path) -> None:
    """Without a swarm, and with the voting stack on three nodes."""
    with session(built, tmp_path / "lab.log") as figures:
        empty = idle(built)
        built.do(STACK, timeout=300)
        settling = idle(built)
        time.sleep(SETTLING)
        settled = idle(built)
        assert max(empty, settling, settled) < CPUS
    report({"idle_cpu_without_swarm": empty, "idle_cpu_voting_stack_at_first": settling,
            "idle_cpu_voting_stack": settled,
            "idle_held_peak_mib": figures["held_peak_mib"]})  # fmt: skip


STACK = """eval "$(labkit env)"; docker swarm init >/dev/null
token=$(docker swarm join-token --quiet worker)
manager=$(docker node inspect self --format '{{.ManagerStatus.Addr}}')
for node in node2 node3; do docker --context $node swarm join --token $token $manager; done
docker stack deploy --detach=false -c notebooks/example-voting-app/docker-stack.yml vote"""


def passed(notebook: nbformat.NotebookNode) -> int:
    """Return how many checks there were; each has to say that all is well."""
    count = 0
    for cell in notebook.cells:
        if cell.cell_type == "code" and re.search(CHECK, cell.source, re.M):
            said = "".join(o.get("data", {}).get("text/plain", "") for o in cell.outputs)
            assert "réussi" in said, said
            count += 1
    return count


def idle(account: Cage) -> float:
    """Return the processors' worth of time that a session takes when nobody does anything."""
    time.sleep(15)
    before = account.groups.cpu_seconds
    time.sleep(IDLE)
    return round((account.groups.cpu_seconds - before) / IDLE, 3)


def until(reached: object, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not reached():  # type: ignore[operator]
        assert time.monotonic() < limit
        time.sleep(0.2)
