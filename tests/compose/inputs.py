"""Small files, each with what docker says of it: taken, or refused at a line.

Most are one service; ``{...}`` is what its description holds besides an image.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Input:
    """A file for docker and labkit.

    Attributes
    ----------
    text
        Of the file.
    line
        Where it is refused; 0 if docker takes it.
    """

    text: str
    line: int = 0


def _service(options: str, line: int = 0, more: str = "") -> Input:
    """Return a file of one service; its options are on line 4."""
    return Input(f"services:\n  web:\n    image: nginx\n    {options}\n{more}", line and line + 3)


def _good(*options: str, more: str = "") -> list[Input]:
    return [_service(text, more=more) for text in options]


def _bad(*options: str, more: str = "") -> list[Input]:
    return [_service(text, 1, more) for text in options]


VOLUMES = "volumes: {data: }\n"
SECRETS = "secrets: {s: {external: true}}\nconfigs: {c: {external: true}}\n"
WEB = "services: {web: {image: nginx}}\n"

INPUTS = [
    # YAML 1.1
    *_bad(
        "restart: no",
        "environment: {DEBUG: yes}",
        "environment: {DEBUG: off}",
        "environment: {on: x}",
        "labels: {n: x}",
        "environment: {1: x}",
        "hostname: y",
        "environment: {~: x}",
        "x-a: {1: x}",
    ),
    *_good(
        "read_only: yes",
        "tty: on",
        "privileged: n",
        "environment: {A: 22:22}",
        "environment: {A: 2001-01-01}",
        "environment: {A: 0b11, B: 1_000, C: 0o17}",
        "environment: {A: ~}",
        "ports: [22:22]",
        "environment: {A: 'yes'}",
    ),
    Input("services:\n  web:\n    image: nginx\n    image: redis\n"),
    Input("services:\n  web: {image: nginx}\nservices:\n  db: {image: redis}\n"),
    Input("services:\n  web:\n    image: nginx\n---\n"),
    Input("services:\n  web:\n    image: nginx\n---\n[ never closed"),
    Input(
        "x-a: &a {image: a, restart: maybe}\nservices:\n  web:\n    restart: always\n    <<: *a\n",
        1,
    ),
    Input(
        "x-a: &a {image: a, restart: maybe}\nservices:\n  web:\n    <<: *a\n    restart: always\n"
    ),
    Input(
        "x-a: &a {restart: maybe}\nx-b: &b {restart: always}\nservices:\n  web:\n    image: x\n"
        "    <<: [*b, *a]\n"
    ),
    # versions
    *[Input(f"version: {v}\n{WEB}") for v in ("'3'", "'3.0'", "'3.12'", "''")],
    *[
        Input(f"version: {v}\n{WEB}", 1)
        for v in ("'2.4'", "'3.13'", "'3.08'", "'1'", "3.8", "3", "~", "'3.8.0'", "'4'")
    ],
    Input("version: '3.1'\nx-a: 1\nservices: {web: {image: nginx}}\n", 2),
    Input("version: '3.4'\nx-a: 1\nservices: {web: {image: nginx}}\n"),
    Input("version: '3.6'\nservices:\n  web:\n    image: nginx\n    x-a: 1\n", 5),
    Input("version: '3.7'\nservices:\n  web:\n    image: nginx\n    x-a: 1\n"),
    Input(
        "version: '3.10'\nservices:\n  web:\n    image: x\n    build: {context: ., tags: [a]}\n", 5
    ),
    Input("version: '3.11'\nservices:\n  web:\n    image: x\n    build: {context: ., tags: [a]}\n"),
    Input("version: '3.3'\nservices:\n  web:\n    image: x\n    healthcheck: {interval: 10}\n", 5),
    Input("version: '3.6'\nservices:\n  web:\n    image: x\n    init: true\n", 5),
    Input(
        "version: '3.11'\nservices:\n  web:\n    image: x\n    healthcheck: {start_interval: 5s}\n",
        5,
    ),
    *_bad(
        "oom_score_adj: 5",
        "name: x",
        "scale: 2",
        "mem_limit: 1g",
        "profiles: [a]",
        "volumes: [{type: image, source: busybox, target: /x}]",
        "deploy: {x-foo: 1}",
        "healthcheck: {x-foo: 1, test: a}",
    ),
    _service("networks: {net: {driver_opts: {a: b}}}", 1, "networks: {net: }\n"),
    _service("networks: {net: {x-foo: 1}}", 1, "networks: {net: }\n"),
    *_good("cgroupns_mode: host", "x-foo: {a: [1]}", more="x-bar: 1\n"),
    # what a student mistypes
    *_bad(
        "deploy: {mode: globale}",
        "deploy: {mode: global, replicas: 6}",
        "deploy: {mode: global-job, replicas: 1}",
        "restart: allways",
        "restart: on-failure:x",
        "deploy: {replicas: -1}",
        "deploy: {replicas: '2'}",
        "deploy: {replicas: 1.5}",
        "ports: ['80:80/tpc']",
        "ports: ['80:']",
        "ports: ['a:80']",
        "ports: ['99999:80']",
        "ports: ['80-82:80-81']",
        "ports: ['82-80:80']",
        "ports: ['1.2.3:80:80']",
        "ports: [80.5]",
        "ports: [{target: 80, published: '80'}]",
        "ports: [80, 80]",
        "ports: [{target: -80}]",
        "ports: [{target: 80, host_ip: 127.0.0.1}]",
        "deploy: {resources: {limits: {memory: 1gg}}}",
        "deploy: {resources: {limits: {memory: 1 000M}}}",
        "deploy: {resources: {limits: {memory: -1G}}}",
        "deploy: {resources: {limits: {cpus: 'a'}}}",
        "deploy: {resources: {limits: {cpus: 0.5}}}",
        "deploy: {resources: {reservations: {cpus: '1/3'}}}",
        "deploy: {update_config: {order: start}}",
        "deploy: {update_config: {delay: 10}}",
        "deploy: {update_config: {parallelism: -2}}",
        "deploy: {restart_policy: {delay: 5}}",
        "healthcheck: {test: x, disable: true}",
        "healthcheck: {retries: -1}",
        "healthcheck: {interval: 10}",
        "healthcheck: {interval: 10 s}",
        "stop_grace_period: soon",
        "stop_grace_period: ''",
        "command: echo 'a",
        'command: echo "a',
        "entrypoint: sh -c a\\",
        "dns: [a, a]",
        "env_file: {a: b}",
        "ulimits: {nproc: {soft: 1}}",
        "ulimits: {nproc: '1'}",
        "shm_size: 64000000",
        "depends_on: {b: {condition: service_healthy}}",
        "depnds_on: [a]",
        "build: {context: ., args: {A: true}}",
        "labels: {a: true}",
        "networks: [ghost]",
        "secrets: [ghost]",
        "configs: [{source: ghost}]",
        "credential_spec: {file: a, registry: b}",
        "credential_spec: {config: ghost}",
        "tmpfs: 5",
        "init: 'true'",
    ),
    *_good(
        "deploy: {mode: replicated-job, replicas: 3}",
        "deploy: {mode: ''}",
        "deploy: ~",
        "restart: unless-stopped",
        "restart: on-failure:3",
        "restart: ''",
        "restart: maybe\n    deploy: {restart_policy: {condition: any}}",
        "ports: ['80-90:80']",
        "ports: ['10000-10064:10000-10064/udp']",
        "ports: ['127.0.0.1::80']",
        "ports: ['[::1]:80:80']",
        "ports: [':80']",
        "ports: ['80:80/UDP', '81:81/sctp']",
        "ports: [{published: 8080}]",
        "ports: [{target: 99999}]",
        "deploy: {resources: {limits: {memory: 1.5gib}}}",
        "deploy: {resources: {limits: {memory: 0b}}}",
        "deploy: {replicas: 2.0}",
        "deploy: {resources: {limits: {cpus: '1/2'}}}",
        "deploy: {resources: {limits: {cpus: '1e-3'}}}",
        "stop_grace_period: .5s",
        "stop_grace_period: +5s",
        "stop_grace_period: 1h1m1.5s",
        "stop_grace_period: '0'",
        "healthcheck: {test: [], disable: true}",
        "healthcheck: {retries: 2.5}",
        "command: 'echo # it''s'",
        "command: sh -c 'a b'",
        "networks: {}",
        "ulimits: {nproc: {soft: 1, hard: 2}}",
        "networks: [default]",
        "expose: [80, '81']",
        "logging: {driver: none, options: {a: 1}}",
    ),
    # mounts
    *_bad(
        "volumes: [{type: bind, target: /x}]",
        "volumes: [{type: tmpfs, source: a, target: /x}]",
        "volumes: [{type: volume, source: data, target: /x, bind: {propagation: rshared}}]",
        "volumes: [{type: volume, source: data, target: /x, tmpfs: {size: 1}}]",
        "volumes: [{type: bind, source: /a, target: /x, volume: {nocopy: true}}]",
        "volumes: [{type: tmpfs, target: /x, tmpfs: {size: -1}}]",
        "volumes: ['data:/x:rshared']",
        "volumes: ['/a:/x:nocopy']",
        "volumes: ['data::/x']",
        "volumes: ['data:/x:ro:z']",
        "volumes: ['ghost:/x']",
        "volumes: [{source: a, target: /x}]",
        "volumes: ['']",
        "volumes: [{type: npipe, target: /x}]",
        "volumes: [{type: cluster, target: /x}]",
        "volumes: [{type: image, source: b, target: /x, image: {subpath: a}}]",
        more=VOLUMES,
    ),
    *_good(
        "volumes: ['data:/x:ro,z', 'C:/x']",
        "volumes: ['./a:/x:rshared']",
        "volumes: ['/x']",
        "volumes: ['C:\\x:/x']",
        "volumes: ['\\\\.\\pipe\\a:/x']",
        "volumes: ['~/a:/x']",
        "volumes: [':x']",
        "volumes: [{type: volume, source: data, target: /x, volume: {z: 1}}]",
        "volumes: [{type: cluster, source: 'group:g', target: /x}]",
        "volumes: [{type: bind, source: a, target: /x, bind: {selinux: z}}]",
        "volumes: ['/x', '/x']",
        "tmpfs: [/a, /b]",
        more=VOLUMES,
    ),
    Input(f"{WEB}volumes:\n  a: {{external: true, driver: local}}\n", 3),
    Input(f"{WEB}volumes:\n  a: {{external: true, labels: [a]}}\n", 3),
    Input(f"{WEB}volumes:\n  a: {{external: {{name: b}}, name: c}}\n", 3),
    Input(f"{WEB}volumes:\n  a: {{external: {{name: b}}}}\n"),
    Input(f"{WEB}volumes:\n  a: {{external: false, driver: local}}\n"),
    Input(f"{WEB}networks:\n  a: {{external: {{name: b}}, name: c}}\n", 3),
    Input(f"{WEB}networks:\n  a: {{external: true, driver: overlay}}\n"),
    Input(f"{WEB}networks:\n  a: {{ipam: {{config: [{{gateway: 10.0.0.1}}]}}}}\n", 3),
    # secrets and configs
    *_good("secrets: [s]\n    configs: [{source: c, mode: 0440}]", more=SECRETS),
    *_bad(
        "secrets: [{target: x}]",
        "configs: [{source: c, mode: -1}]",
        "secrets: [{source: s, mode: '0440'}]",
        more=SECRETS,
    ),
    Input(f"{WEB}secrets:\n  a: {{}}\n", 3),
    Input(f"{WEB}secrets:\n  a: {{file: absent}}\n", 3),
    Input(f"{WEB}secrets:\n  a: {{file: .}}\n", 3),
    Input(f"{WEB}secrets:\n  a: {{file: present.env}}\n"),
    Input(f"{WEB}secrets:\n  a: {{file: present.env, driver: x}}\n", 3),
    Input(f"{WEB}secrets:\n  a: {{driver: x}}\n"),
    Input(f"{WEB}secrets:\n  a: {{environment: X}}\n", 3),
    Input(f"{WEB}configs:\n  a: {{content: x}}\n", 3),
    Input(f"{WEB}configs:\n  a: {{file: absent}}\n", 3),
    Input(f"{WEB}configs:\n  a: {{}}\n", 3),
    # files of variables
    *_bad(
        "env_file: absent.env",
        "env_file: [present.env, absent.env]",
        "env_file: .",
        "env_file: blank.env",
        "env_file: nameless.env",
        "env_file: latin.env",
        "env_file: [{path: present.env}]",
    ),
    *_good("env_file: present.env", "env_file: [present.env]"),
    # variables
    *_bad(
        'command: "${V:+x}"',
        'command: "${V+x}"',
        'ports: ["${P}"]',
        'volumes: ["${V}:/x"]',
        'command: "${X:?}"',
        'user: "${X?said}"',
        'deploy: {replicas: "${N}"}',
        'tty: "${T:-maybe}"',
        "command: a $ b",
        'command: "${A} $"',
        'command: "${1}"',
        'command: "${A"',
        'stop_grace_period: "${D}"',
        "x-a: 'a $'",
    ),
    *_good(
        'command: "${B:-${C:-c}}"',
        'command: "${A:-${B}"',
        'command: "${P:-$2y$05$abc}"',
        'command: "test $? && $H"',
        'command: "${X:?} $Y"',
        'deploy: {replicas: "${N:-3}"}',
        'tty: "${T:-yes}"',
        "command: a $$ b",
        'command: "${A}"',
        'command: "$A-b"',
        'ports: ["${P:-80}:80"]',
        'ports: ["${P}:80"]',
        'image: "x:${TAG}"',
        'labels: ["a=${A}"]',
        'stop_grace_period: "${D:-5s}"',
        'command: "${A:-}"',
        'healthcheck: {disable: "${D-no}"}',
    ),
    Input(
        "services:\n  web:\n    image: x\n    command: |\n      one\n      two\n      $(date)\n", 7
    ),
    Input(
        "services:\n  web:\n    image: x\n    command: >-\n      one\n\n      two\n      $(date)\n",
        8,
    ),
    Input('services:\n  web:\n    image: x\n    command: "one\n      two\n      $(date)"\n', 6),
    Input("services:\n  web:\n    image: x\n    command: one\n      $$two\n      $(date)\n", 6),
    # names
    Input("services:\n  web:\n    image: ${IMAGE}\n", 3),
    Input("services:\n  été: {image: x}\n", 2),
    Input("services:\n  'a b': {image: x}\n", 2),
    Input(f"{WEB}volumes:\n  'a b': \n", 3),
    Input(f"{WEB}networks:\n  été: \n"),
    Input("services: {a.b: {image: x, deploy: {replicas: '${N:-3}'}}}\n", 1),
    Input("services:\n  web:\n    image: nginx\n    bulid: .\n", 4),
    Input("services:\n  web:\n", 2),
    Input("services:\n", 1),
    Input("web:\n  image: x\n", 1),
    Input("volumes: {}\n"),
]

FILES = {  # which the inputs name
    "present.env": b"\xef\xbb\xbfA=1\n# a comment\n  B\nC=\n",
    "blank.env": b"A B=1\n",
    "nameless.env": b"=1\n",
    "latin.env": b"A=\xe9\n",
}
