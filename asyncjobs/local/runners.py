"""Which runner a container gets: its image says it. There is no mode of the engine."""

from __future__ import annotations

from asyncjobs.local.access import Endpoint
from asyncjobs.local.image import REGISTRY
from asyncjobs.local.tasks import ContainerSpec, RunningContainer, TaskRunner


class Runners:
    """Snapshots of a project run as processes, images as containers.

    Args:
        processes: Runs what `asyncjobs.local/...` names.
        containers: Runs everything else.
    """

    def __init__(self, processes: TaskRunner, containers: TaskRunner) -> None:
        self._processes = processes
        self._containers = containers

    def endpoint_for(self, image: str) -> Endpoint:
        """Where the engine is for a container of this image.

        Raises:
            StartError: It could not be reached.
        """
        return self._of(image).endpoint()

    def start(self, spec: ContainerSpec) -> RunningContainer:
        """Start one container.

        Raises:
            StartError: It could not be started.
        """
        return self._of(spec.image).start(spec)

    def close(self) -> None:
        self._containers.close()
        self._processes.close()

    def _of(self, image: str) -> TaskRunner:
        return self._processes if is_snapshot(image) else self._containers


def is_snapshot(image: str) -> bool:
    return image.startswith(f"{REGISTRY}/")
