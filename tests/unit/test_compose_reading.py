"""Compose files read: what is right, and file, line and reason of what is wrong."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from labkit.compose import ComposeMount, ComposePort, parse, read
from labkit.compose.schema import published_schema
from labkit.errors import ComposeError, LabkitError


def wrong(text: str) -> ComposeError:
    with pytest.raises(ComposeError) as caught:
        parse(text, "web.yml")
    assert isinstance(caught.value, LabkitError) and caught.value.code == "compose-error"
    assert caught.value.file == "web.yml" and str(caught.value).startswith("web.yml")
    return caught.value


def test_the_schema_is_that_of_the_specification() -> None:
    assert published_schema()["title"] == "Compose Specification"


def test_short_and_long_syntax_are_the_same() -> None:
    short = parse(
        """
services:
  web:
    image: nginx
    ports: ["8080:80", "53:53/udp"]
    volumes: ["data:/srv:ro", "./site:/www"]
    networks: [front]
volumes: {data: }
networks: {front: }
"""
    )
    long = parse(
        """
services:
  web:
    image: nginx
    ports:
      - {target: 53, published: 53, protocol: udp}
      - {target: 80, published: "8080"}
    volumes:
      - {type: bind, source: ./site, target: /www}
      - {type: volume, source: data, target: /srv, read_only: true}
    networks: {front: {aliases: [www]}}
volumes: {data: {}}
networks: {front: {}}
"""
    )
    a, b = short.services[0], long.services[0]
    assert a.ports == b.ports == (ComposePort("53", "53", "udp"), ComposePort("80", "8080"))
    assert a.mounts == b.mounts
    assert a.mounts[0] == ComposeMount("volume", "data", "/srv", read_only=True)
    assert a.networks == b.networks == ("front",)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("3000", ["auto→3000"]),
        ("22:22", ["22→22"]),  # a number in base 60 for YAML 1.1
        ("'9090-9091:8080-8081'", ["9090→8080", "9091→8081"]),
        ("'127.0.0.1:8001:8001'", ["127.0.0.1:8001→8001"]),
        ("'127.0.0.1::5000'", ["127.0.0.1:→5000"]),
        ("'[::1]:6000:6000'", ["::1:6000→6000"]),
        ("'6060:6060/udp'", ["6060→6060/udp"]),
        ("'${PORT}:80'", ["${PORT}→80"]),
        ("'${PORT:-5000}:80'", ["5000→80"]),
        ("{target: 80, published: 80, mode: host}", ["80→80 (host)"]),
    ],
)
def test_ports(text: str, ports: list[str]) -> None:
    file = parse(f"services: {{web: {{image: x, ports: [{text}]}}}}")
    assert [str(p) for p in file.services[0].ports] == ports


@pytest.mark.parametrize(
    ("text", "kind", "source"),
    [
        ("data:/x", "volume", "data"),
        ("/var/lib:/x", "bind", "/var/lib"),
        ("~/x:/x", "bind", "~/x"),
        (r"C:\data:/x", "bind", r"C:\data"),
        ("/x", "volume", ""),
        ("${DIR}:/x", "bind", "${DIR}"),
        ("${DIR}/a:/x", "bind", "${DIR}/a"),
    ],
)
def test_mounts(text: str, kind: str, source: str) -> None:
    file = parse(f"services: {{web: {{image: x, volumes: ['{text}']}}}}")
    mount = file.services[0].mounts[0]
    assert (mount.kind, mount.source, mount.target) == (kind, source, "/x")


def test_scalars_are_read_as_docker_does() -> None:
    file = parse(
        "services: {a: {image: x, environment: {A: yes, B: 010, C: 1e3, D: on, E: ~, F: 0x1f},"
        " read_only: yes}}"
    )
    assert file.services[0].options["read_only"] is True
    values = file.services[0].options["environment"]
    assert values == {"A": "yes", "B": 8, "C": 1000.0, "D": "on", "E": None, "F": 31}


def test_merge_keys_and_lines() -> None:
    file = parse(
        """x-common: &common
  image: base
  labels: {a: "1"}
services:
  web:
    <<: *common
    image: nginx
  db:
    <<: [*common, {user: root}]
"""
    )
    web, db = file.services
    assert (web.image, db.image) == ("nginx", "base")
    assert db.options["user"] == "root"
    assert file.line("services", "web", "image") == 7
    assert file.line("services", "db", "image") == 2  # where it is written
    assert web.line == 5


def test_variables() -> None:
    text = """services:
  web:
    image: ${REGISTRY:-docker.io}/app:${TAG:-${VERSION:-1}}
    command: echo $$HOME ${NAME} ${MUST:?needed} ${SET+on}
    deploy: {replicas: "${N-3}"}
"""
    file = parse(text)
    web = file.services[0]
    # docker stack deploy knows no variable in another's default
    assert web.image == "docker.io/app:${VERSION:-1}" and web.replicas == "3"
    assert web.options["command"] == "echo $HOME ${NAME} ${MUST} ${SET+on}"
    variables = {v.name: v for v in file.variables}
    assert variables["NAME"].missing and variables["NAME"].line == 4
    assert variables["MUST"].required and not variables["NAME"].required
    given = parse(text, environment={"TAG": "9", "REGISTRY": "", "SET": "1", "MUST": "m"})
    assert given.services[0].image == "docker.io/app:9}"
    assert given.services[0].options["command"] == "echo $HOME ${NAME} m ${SET+on}"


def test_networks_and_volumes_nobody_declared() -> None:
    file = parse(
        "services:\n  a: {image: x, networks: [ghost], volumes: ['void:/v']}\n  b: {image: x}\n"
    )
    ghost, default = file.networks
    assert (ghost.name, ghost.declared, ghost.line) == ("ghost", False, 2)
    assert default.implicit and default.declared
    assert [v.declared for v in file.volumes] == [False]


def test_host_network_and_build() -> None:
    file = parse("services: {a: {build: {context: ./app}, network_mode: host}}")
    assert file.services[0].networks == () and file.networks == ()
    assert file.services[0].build == "./app" and not file.services[0].image


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", None, "vide"),
        ("# rien\n", None, "vide"),
        ("- a\n- b\n", 1, "une liste"),
        ("bonjour", 1, "un texte"),
        ("services:\n\tweb: {image: x}\n", 2, "tabulation"),
        ("services:\n  web:\n    imge: x\n", 3, "imge"),
        ("services:\n  web:\n    image: [x]\n", 3, "un texte, pas une liste"),
        ("services:\n  web: {image: x}\nservice: 1\n", 3, "premier niveau"),
        ("web:\n  image: x\n", 1, "ancien format"),
        ("services:\n  web:\n  image: x\n", 2, "pas vide"),
        ("services:\n  a: &a\n    image: x\n    labels: *a\n", 2, "elle-même"),
        ("services:\n  a: {<<: &z {<<: *z}}\n", 2, "elle-même"),
        ("services:\n  a: {<<: 3}\n", 2, "« <<"),
        ("services:\n  a: {image: *nul}\n", 2, "alias"),
        ('services:\n  a:\n    image: "x\n', 3, "guillemet"),
        ("services:\n  a:\n    image: x\n    environment\n      B: 1\n", 4, "« : »"),
        ("services:\n  a: {image: x, ports: [99999:80]}", 2, "n’est pas un port"),
        ("services:\n  a: {image: x, ports: ['80-82:80-81']}", 2, "longueur"),
        ("services:\n  a: {image: x, volumes: ['data::/x']}", 2, "n’est pas un volume"),
        ("services:\n  a: {image: '${A'}", 2, "variable"),
        ("services:\n  a: {image: x, environment: {1: b}}", 2, "pas un texte"),
        ("services:\n  été: {image: x}", 2, "pas possible"),
        ("version: 3.8\nservices: {a: {image: x}}", 1, "nombre 3.8"),
        ("services:\n  a: {image: x, volumes: [{type: bnd}]}", 2, "bnd"),
        ("services:\n  a: {image: x, depends_on: {b: {}}}", 2, "condition"),
        ("services:\n  a:\n    image: \x01\n", 3, "interdit"),
        ("[" * 100_000, 1, "profonde"),
    ],
)
def test_bad_files(text: str, line: int | None, reason: str) -> None:
    error = wrong(text)
    assert error.line == line
    assert reason in error.reason.replace("\u00a0", " ")


def test_every_problem_is_named_and_a_word_is_proposed() -> None:
    error = wrong("services:\n  a:\n    imge: x\n    ports: 80\n    deploy: {replicas: [1]}\n")
    assert "« image »" in error.remedy.replace("\u00a0", " ")
    assert [line for line, _ in error.others] == [4, 5]
    assert "ligne 5" in str(error)


def test_aliases_cannot_grow_without_end() -> None:
    names = "abcdefghij"
    text = "x-a: &a [1]\n" + "".join(
        f"x-{n}: &{n} [{', '.join([f'*{m}'] * 9)}]\n" for m, n in itertools.pairwise(names)
    )
    assert "trop grand" in wrong(text).reason


@pytest.mark.timeout(200)  # some seconds; each took hours, or memory without end
def test_what_is_large_ends() -> None:
    web = "services:\n  web: {image: x}\n"
    keys = "".join(f"  k{i}: v\n" for i in range(20_000))
    parse(f"x-a: &a\n{keys}x-b:\n  <<: *a\n{web}", "stack.yml")
    many = ", ".join(["*e{0}"] * 500)
    empty = "".join(f"x-e{i}: &e{i} {{<<: [{many.format(i - 1)}]}}\n" for i in range(1, 7))
    chain = "".join(f"x-e{i}: &e{i} {{<<: *e{i - 1}}}\n" for i in range(1, 3000))
    for merges in (empty, chain):
        assert "trop grand" in wrong(f"x-e0: &e0 {{}}\n{merges}{web}").reason
    assert "trop grand" in wrong(f"x-a: [{'a,' * 400_000}]\n{web}").reason


def test_bytes(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    text = "services:\n  web: {image: nginx}\n"
    for content in (b"\xef\xbb\xbf" + text.encode(), text.replace("\n", "\r\n").encode()):
        path.write_bytes(content)
        assert read(path).services[0].image == "nginx"
    for content, reason in (
        (b"\x7fELF\0\0", "binaire"),
        (b"services:\n  a: {image: \xe9}\n", "UTF-8"),
        (b"#" * 1_000_001, "Mo"),
    ):
        path.write_bytes(content)
        with pytest.raises(ComposeError, match=reason):
            read(path)
    with pytest.raises(ComposeError, match="n’existe pas"):
        read(tmp_path / "absent.yml")
    with pytest.raises(ComposeError, match="ne peut pas être lu"):
        read(tmp_path)


def test_many_services_are_read() -> None:
    text = "services:\n" + "".join(
        f"  s{i}:\n    image: nginx:{i}\n    ports: ['{8000 + i}:80']\n" for i in range(1000)
    )
    assert len(parse(text).services) == 1000


def test_shown_in_a_terminal_and_in_a_notebook() -> None:
    file = parse("services: {web: {image: '<b>x</b>', labels: {a: b}}}", "<i>.yml")
    assert "<b>" not in file._repr_html_() and "<i>" not in file._repr_html_()
    assert "web" in str(file) and "default" in str(file)
    assert str(parse("services: {}", "a.yml")) == "a.yml : 0 service, 0 réseau, 0 volume"
    assert "\x1b" not in str(parse('services: {a: {image: "\\e[31mx"}}'))
