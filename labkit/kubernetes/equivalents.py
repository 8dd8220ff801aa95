"""The equivalents of Swarm in Kubernetes: one table, for the course and the code."""

from typing import NamedTuple


class Equivalent(NamedTuple):
    """An option of a stack, and its equivalent in Kubernetes."""

    answer: str  # in a few French words
    hint: str  # where to look, for those who search
    kinds: tuple[str, ...] = ()  # objects that are this option


EQUIVALENTS = {
    "services": Equivalent(
        "un Deployment et un Service",
        "Deux objets pour un service : l’un fabrique les Pods, l’autre leur donne un nom.",
        ("Deployment", "ReplicaSet", "ReplicationController", "Pod", "Service", "Job"),
    ),
    "deploy.replicas": Equivalent(
        "replicas, dans un Deployment",
        "Le mot est le même ; cherchez dans quel objet il est écrit.",
    ),
    "deploy.mode: global": Equivalent(
        "un DaemonSet",
        "L’objet qui met un Pod sur chaque nœud n’est pas dans kube-deployment.yml : quel nom "
        "ressemble à celui d’un démon, présent partout ?",
        ("DaemonSet",),
    ),
    "ports": Equivalent(
        "un Service de type LoadBalancer ou NodePort",
        "Comparez les Services vote et redis : lequel s’ouvre à l’extérieur, et par quelle clé ?",
    ),
    "ports, mode: host": Equivalent(
        "hostPort, dans un conteneur",
        "Le port d’un seul nœud, sans le routing mesh : une clé de « ports », dans le conteneur.",
    ),
    "networks": Equivalent(
        "rien : tous les Pods se joignent", "Cherchez frontend et backend dans kube-deployment.yml."
    ),
    "volumes": Equivalent(
        "un PersistentVolumeClaim",
        "Suivez « db-data », de « volumeMounts » jusqu’à l’objet qui porte ce nom.",
        ("PersistentVolumeClaim",),
    ),
    "deploy.placement": Equivalent(
        "nodeSelector", "Comment « db » choisit-il son nœud dans kube-deployment.yml ?"
    ),
    "deploy.update_config": Equivalent(
        "strategy, dans un Deployment", "Comment vote remplace-t-il ses anciens Pods ?"
    ),
    "deploy.resources": Equivalent("resources, dans un conteneur", "Cherchez 128Mi."),
    "healthcheck": Equivalent(
        "readinessProbe et livenessProbe",
        "Que demande Kubernetes à /health avant d’envoyer des visiteurs à vote ?",
    ),
    "stop_grace_period": Equivalent(
        "terminationGracePeriodSeconds", "« db » a une minute pour s’arrêter : cherchez 60."
    ),
    "entrypoint": Equivalent(
        "command, dans un conteneur",
        "Un faux ami : chez Kubernetes, « command » remplace l’ENTRYPOINT de l’image.",
    ),
    "command": Equivalent(
        "args, dans un conteneur",
        "Comment redis reçoit-il « --appendonly yes » dans kube-deployment.yml ?",
    ),
    "environment": Equivalent("env, dans un conteneur", "Cherchez POSTGRES_USER."),
    "configs": Equivalent(
        "un ConfigMap",
        "Il n’est pas dans kube-deployment.yml ; son nom dit ce qu’il contient.",
        ("ConfigMap",),
    ),
    "secrets": Equivalent(
        "un Secret", "Il n’est pas dans kube-deployment.yml, mais le mot est le même.", ("Secret",)
    ),
}
"""By option of a stack."""

ONLY_KUBERNETES = {
    "CronJob": "un Job à heures fixes ; Swarm a des jobs (mode: replicated-job), sans horaire",
    "CustomResourceDefinition": "des objets que l’on invente, et qu’un programme du cluster "
    "comprend",
    "HorizontalPodAutoscaler": "change « replicas » selon la charge ; chez Swarm, c’est vous : "
    "docker service scale",
    "Namespace": "des noms à part dans un même cluster ; une stack ne fait que préfixer les siens",
    "StatefulSet": "des Pods numérotés, chacun avec son volume ; les replicas d’un service de "
    "Swarm se valent tous",
}
"""Objects that notebook 06 names as Kubernetes's alone, and what they are."""

KINDS = {kind for equivalent in EQUIVALENTS.values() for kind in equivalent.kinds}
"""Kinds of objects that do what an option of a stack does."""
