"""The voting app, as a file and as the state of a cluster that runs it."""

from __future__ import annotations

from datetime import UTC, datetime

from labkit.state import ClusterState, Mount, Network, Node, Port, Service, Task

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)

STACK = """version: "3"
services:
  redis:
    image: redis:alpine
    networks: [frontend]
    deploy:
      update_config: {parallelism: 2, delay: 10s}
  db:
    image: postgres:9.4
    volumes: ["db-data:/var/lib/postgresql/data"]
    networks: [backend]
    deploy:
      placement: {constraints: [node.role == manager]}
  vote:
    image: vote:before
    ports: ["5000:80"]
    networks: [frontend]
    depends_on: [redis]
    deploy: {replicas: 2}
  result:
    image: result:before
    ports: ["5001:80"]
    networks: [backend]
  worker:
    image: worker
    networks: [frontend, backend]
    deploy:
      mode: replicated
      labels: [APP=VOTING]
      placement: {constraints: [node.role == manager]}
  visualizer:
    image: visualizer:stable
    ports: ["8080:8080"]
    stop_grace_period: 1m30s
    volumes: ["/var/run/docker.sock:/var/run/docker.sock"]
    deploy:
      placement: {constraints: [node.role == manager]}
networks:
  frontend:
  backend:
volumes:
  db-data:
"""

_MANAGER = ("node.role == manager",)


def _service(name: str, image: str, *networks: str, **more: object) -> Service:
    full = f"vote_{name}"
    names = tuple(f"vote_{n}" for n in networks)
    options: dict[str, object] = {"stack": "vote", "networks": names, "replicas": 1, **more}
    return Service(id=full, name=full, image=image, mode="replicated", **options)  # type: ignore[arg-type]


def live_state(**changes: int) -> ClusterState:
    """Return the state of a cluster that runs the stack; ``changes`` are numbers of replicas."""
    data = Mount("volume", "vote_db-data", "/var/lib/postgresql/data", stack="vote")
    socket = Mount("bind", "/var/run/docker.sock", "/var/run/docker.sock")
    services = (
        _service("db", "postgres:9.4", "backend", mounts=(data,), constraints=_MANAGER),
        _service("redis", "redis:alpine", "frontend"),
        _service("result", "result:before", "backend", ports=(Port(80, 5001),)),
        _service("visualizer", "visualizer:stable", "default", ports=(Port(8080, 8080),),
                 mounts=(socket,), constraints=_MANAGER),
        _service("vote", "vote:before", "frontend", ports=(Port(80, 5000),),
                 replicas=changes.get("vote", 2)),
        _service("worker", "worker:latest", "backend", "frontend",
                 constraints=_MANAGER),
    )  # fmt: skip
    task = Task("t1", "vote_vote", "vote_vote", 1, "n1", "node1", "running", "running")
    networks = tuple(
        Network(f"id-{n}", f"vote_{n}", "overlay", "swarm", stack="vote")
        for n in ("backend", "default", "frontend")
    )
    node = Node("n1", "node1", "manager", "active", "ready", leader=True)
    return ClusterState(NOW, "active", "node1", (), (node,), services, (task,), networks)
