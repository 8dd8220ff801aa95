"""Engines that the user names: how they are named, and what their preflight says of facts."""

from __future__ import annotations

import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from urllib3.exceptions import MaxRetryError, ProtocolError

import labkit
from labkit.engine.clients import explain
from labkit.engine.endpoint import Endpoint
from labkit.engine.machines import OwnMachine
from labkit.engine.ssh import SSHFailed, ssh_command
from labkit.errors import SettingError
from labkit.preflight.machines import advertised, machine_rows
from labkit.preflight.survey import PORTS, Survey
from labkit.verdict import Row, Verdict


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


# -- LABKIT_ENGINE --------------------------------------------------------------------------


def test_a_list_names_one_node_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "LABKIT_ENGINE", " ssh://etudiante@192.0.2.7 ,tcp://192.0.2.8:2375,unix:///s,"
    )
    fleet = labkit.connect()
    assert [(e.name, e.address) for e in fleet] == [
        ("node1", "192.0.2.7"),
        ("node2", "192.0.2.8"),
        ("node3", "127.0.0.1"),
    ]
    assert fleet.kind == "host"
    assert fleet.published("node1", 80) == ("192.0.2.7", 80)


@pytest.mark.parametrize(
    "value",
    ["vm1", "hots", "ssh://vm1,vm2", ",", "http://vm1:2375", "tcp://vm1", "unix://", "ssh://",
     "tcp://vm1:x", "ssh://vm1,ssh://vm1", "ssh://a:secret@vm1"],
)  # fmt: skip
def test_what_cannot_be_an_engine_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LABKIT_ENGINE", value)
    for ask in (labkit.connect, labkit.status, labkit.up, labkit.down):
        with pytest.raises(SettingError) as refused:
            ask()
        assert refused.value.remedy
        assert "secret" not in str(refused.value)


def test_host_without_anything_is_the_default_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ENGINE", "host")
    assert [e.url for e in labkit.connect()] == ["unix:///var/run/docker.sock"]
    monkeypatch.setenv("DOCKER_CONTEXT", "absent")
    with pytest.raises(SettingError, match="absent"):
        labkit.connect()


def test_status_of_engines_that_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ENGINE", "tcp://127.0.0.1:9,tcp://[::1]:9")
    status = labkit.status()
    assert [n.swarm for n in status.nodes] == ["unreachable"] * 2
    assert "labkit doctor" in str(status)


def test_certificates_are_for_tcp_and_must_be_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    monkeypatch.setenv("LABKIT_ENGINE", "tcp://vm1:2376,unix:///s")
    with pytest.raises(SettingError, match=r"ca\.pem"):
        labkit.connect()
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).touch()
    assert [e.tls for e in labkit.connect()] == [tmp_path, None]


def test_ssh_never_asks_and_takes_no_option_for_a_host() -> None:
    command = ssh_command("ssh://-oProxyCommand=x@-v:2222", "docker", "a b")
    assert command[-3:] == ["--", "-v", "docker 'a b'"]
    assert "-oBatchMode=yes" in command
    assert command[command.index("-p") + 1] == "2222"


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (SSHFailed("Permission denied (publickey)."), "ssh : Permission denied (publickey)."),
        (FileNotFoundError(2, "No such file"), "sa socket n’existe pas : docker est-il démarré ?"),
        (socket.gaierror(-2, "Name or service not known"), "nom de machine inconnu"),
        (ssl.SSLError("bad certificate"), "TLS : certificats refusés, ou absents"),
        (ConnectionRefusedError(111, "Connection refused"), "connexion refusée ou coupée"),
    ],
)
def test_a_failed_connection_is_explained_in_french(cause: Exception, said: str) -> None:
    aborted = requests.ConnectionError(ProtocolError("Connection aborted.", cause))
    assert explain(aborted) == said
    retried = requests.ConnectionError(MaxRetryError(None, "/", cause))  # type: ignore[arg-type]
    assert explain(retried) == said


def test_what_answers_may_not_be_docker() -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    from labkit.state import capture

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        endpoint = Endpoint.parse(f"tcp://127.0.0.1:{server.server_port}", "node1")
        state = capture(labkit.Fleet("host", (endpoint,)))
        server.shutdown()
    assert state.engines[0].error == "ce qui répond n’est pas un moteur Docker"


# -- the preflight --------------------------------------------------------------------------

ONE = OwnMachine(
    "node1", hostname="vm1", version="28.2", clock=0.1, clock_error=0.05, image=True, cli="",
    addresses=("192.0.2.1",),
)  # fmt: skip
TWO = replace(ONE, name="node2", hostname="vm2", addresses=("192.0.2.2",))
THREE = replace(ONE, name="node3", hostname="vm3", addresses=("192.0.2.3",))
ALL = (ONE, TWO, THREE)


def open_between(*machines: OwnMachine) -> frozenset[tuple[str, str, str, str]]:
    return frozenset(
        (a.name, b.name, address, port)
        for a in machines
        for b in machines
        if a != b
        for address in b.addresses or ()
        for port in PORTS
    )


def judged(
    *machines: OwnMachine, ways: frozenset[tuple[str, str, str, str]] | None = None
) -> Verdict:
    reached = open_between(*machines) if ways is None else ways
    return Verdict.of("x", machine_rows(Survey(machines, reached)))


def wrong(verdict: Verdict) -> dict[str, str]:
    return {r.what: r.found for r in verdict.rows if not r.ok}


def row(verdict: Verdict, what: str) -> Row:
    (found,) = [r for r in verdict.rows if r.what == what]
    return found


def test_sound_machines_are_all_right() -> None:
    assert judged(*ALL).ok


@pytest.mark.parametrize(
    ("clock", "error", "found"),
    [
        (2.0, 0.05, None),
        (75.0, 0.05, "node2 avance de 75 s sur node1"),
        (7200.0, 0.05, "node2 avance de 7200 s sur node1"),
        (5.5, 2.0, "non vérifié : les réponses sont trop lentes pour le dire"),
        (None, 0.0, "non vérifié : node2"),
    ],
)
def test_clocks(clock: float | None, error: float, found: str | None) -> None:
    verdict = judged(replace(ONE, clock=0.0), replace(TWO, clock=clock, clock_error=error))
    assert wrong(verdict) == ({"Horloges": found} if found else {})
    if clock == 7200.0:
        assert "certificats" in row(verdict, "Horloges").hint


def test_versions_image_cli_and_protection() -> None:
    odd = replace(TWO, version="20.10", image=False, cli="boum", plain=True)
    assert wrong(judged(ONE, odd)) == {
        "Versions": "node1 28.2, node2 20.10",
        "Image traefik/whoami": "absente de node2",
        "Commande docker": "échoue pour node2 (boum)",
        "Protection des moteurs": "aucune : node2",
    }
    assert wrong(judged(ONE, replace(TWO, cli=None))) == {"Commande docker": "non vérifié"}


def test_a_silent_engine_leaves_its_ports_unchecked() -> None:
    silent = OwnMachine("node2", error="connexion refusée ou coupée", unprobed="son moteur se tait")
    verdict = judged(ONE, silent, ways=frozenset())
    assert wrong(verdict)["Moteur de node2"] == "connexion refusée ou coupée"
    for port in PORTS:
        assert wrong(verdict)[f"Port {port}"] == "non vérifié : node1 → node2, node2 → node1"
        assert "son moteur se tait" in row(verdict, f"Port {port}").hint
    assert "fermé" not in repr(verdict)


def test_a_closed_port_is_named_with_its_way() -> None:
    ways = open_between(*ALL) - {("node1", "node2", "192.0.2.2", "4789/udp")}
    verdict = judged(*ALL, ways=ways)
    assert wrong(verdict) == {"Port 4789/udp": "fermé : node1 → node2"}


def test_silence_of_a_machine_where_nothing_ran_is_not_called_closed() -> None:
    verdict = judged(ONE, replace(TWO, unprobed="trop tard"), THREE, ways=open_between(ONE, THREE))
    unchecked = "non vérifié : node1 → node2, node2 → node1, node2 → node3, node3 → node2"
    assert wrong(verdict) == {f"Port {port}": unchecked for port in PORTS}
    assert "trop tard" in row(verdict, "Port 7946/udp").hint


def test_a_port_that_an_engine_holds_is_not_called_open_nor_closed() -> None:
    joined = [
        replace(m, busy=PORTS, swarm="active", node_id=m.name,
                managers=(("node1", "192.0.2.1:2377", "vm1"),))
        for m in (ONE, TWO)
    ]  # fmt: skip
    tcp = frozenset(way for way in open_between(*joined) if way[3].endswith("/tcp"))
    verdict = judged(*joined, ways=tcp)
    unchecked = "non vérifié : node1 → node2, node2 → node1"
    assert wrong(verdict) == {"Port 7946/udp": unchecked, "Port 4789/udp": unchecked}


def test_the_address_to_advertise_is_the_one_that_is_reached() -> None:
    nat = [replace(m, addresses=("10.0.2.15", *(m.addresses or ()))) for m in ALL]
    ways = frozenset(way for way in open_between(*nat) if way[2] != "10.0.2.15")
    verdict = judged(*nat, ways=ways)
    assert wrong(verdict)["Adresse de node2"] == "10.0.2.15, 192.0.2.2"
    assert "--advertise-addr 192.0.2.2 " in row(verdict, "Adresse de node2").hint
    assert set(wrong(verdict)) == {f"Adresse de node{i}" for i in (1, 2, 3)}
    assert advertised(nat[0], Survey(tuple(nat))) is None
    unknown = replace(TWO, addresses=None, unprobed="pas de python")
    assert wrong(judged(ONE, unknown))["Adresse de node2"] == "non vérifié : pas de python"


def member(machine: OwnMachine, *managers: OwnMachine, state: str = "active") -> OwnMachine:
    named = tuple((m.name, f"{(m.addresses or ('?',))[0]}:2377", "") for m in managers)
    return replace(machine, swarm=state, node_id=machine.name, managers=named)


def test_one_swarm_of_these_machines_is_theirs() -> None:
    verdict = judged(member(ONE, ONE, TWO), member(TWO, TWO, ONE), THREE)
    assert not wrong(verdict)
    assert row(verdict, "Swarm").found == "le même : node1, node2"


@pytest.mark.parametrize(
    ("machines", "blamed"),
    [
        ((member(ONE, ONE), member(TWO, TWO), THREE), {"node1", "node2"}),  # two swarms
        ((ONE, member(TWO, replace(ONE, name="other"))), {"node2"}),  # somebody else's
        ((member(ONE, ONE, replace(TWO, name="other")), TWO), {"node1"}),  # partly theirs
        ((member(ONE, state="locked"), TWO), {"node1"}),
        ((member(ONE, ONE, state="error"), TWO), {"node1"}),
    ],
)
def test_a_swarm_that_is_not_theirs_is_told(
    machines: tuple[OwnMachine, ...], blamed: set[str]
) -> None:
    verdict = judged(*machines)
    assert set(wrong(verdict)) == {f"Swarm de {name}" for name in blamed}
    for name in blamed:
        found = row(verdict, f"Swarm de {name}")
        assert "d’un Swarm dont les managers sont" in found.found
        assert f"docker --context {name} swarm leave --force" in found.hint


def test_one_machine_alone_says_that_ports_were_not_checked() -> None:
    assert wrong(judged(ONE)) == {
        "Ports entre les machines": "non vérifié : une seule machine est connue"
    }
