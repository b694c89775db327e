"""The image of a local stack: built and pushed as for AWS, or a snapshot that processes are started from."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from asyncjobs.aws import Clients
from asyncjobs.commands.target import TasksAs
from asyncjobs.config import Config
from asyncjobs.errors import ConfigError, DockerError, NoEngineError
from asyncjobs.image.architecture import this_machine
from asyncjobs.image.recipe import BuilderName
from asyncjobs.local.control import LocalEngine
from asyncjobs.local.image import ProcessImages
from asyncjobs.names import Names
from asyncjobs.progress import Event, Progress
from asyncjobs.provision.image import GivenImage
from asyncjobs.provision.resource import Inputs, Resource, State


class LocalImages:
    """Where a local stack gets its image from.

    Args:
        registry: That of the engine, "127.0.0.1:PORT".
        image: One that exists, in place of one that is built.
        builder: What builds it, in place of `[worker] builder`.
    """

    def __init__(
        self,
        engine: LocalEngine,
        registry: str,
        clients: Clients,
        names: Names,
        *,
        tasks: TasksAs,
        image: str | None,
        builder: BuilderName | None,
    ) -> None:
        self._engine = engine
        self._repository = f"{registry}/{names.repository}"
        self._clients = clients
        self._names = names
        self._tasks = tasks
        self._image = image
        self._builder = builder

    def of(self, project: Path | None, config: Config, progress: Progress) -> Resource:
        """The image resource of a project; of none, what deletes all that the stack ever had.

        Raises:
            ConfigError: The project is wrong, or what is asked for does not go together.
            DockerError: It takes containers, and none can be run.
        """
        images = ProcessImages(self._engine.state_dir)
        if project is None:
            return EveryImage(images, self._names.stack, self._repository)
        if self._tasks == "processes" and self._image:
            raise ConfigError(f"The image {self._image} cannot be run as a process.", hint="Leave `--tasks` out.")
        if self._tasks != "processes":
            try:
                return self._container_image(project, config, progress)
            except DockerError as error:
                if self._tasks == "containers" or self._image:
                    raise
                why = f"{error.what} {error.why}".strip().splitlines()[0]
                progress.emit(Event("image", "info", f"tasks will be processes, not containers: {why}"))
        return Snapshot(images, self._names.stack, project, progress)

    def _container_image(self, project: Path, config: Config, progress: Progress) -> Resource:
        if why := self._engine.containers_unavailable():
            raise DockerError(
                "The local engine cannot run containers.",
                why=why,
                hint="`--tasks processes` needs no Docker engine.",
            )
        if self._image:
            wanted = config.worker.architecture
            return GivenImage(self._image, this_machine() if wanted == "auto" else wanted)
        # Only here: the Docker SDK takes a tenth of a second to import.
        from asyncjobs.commands.build import built_image

        built = built_image(self._clients, self._names, project, config, progress, self._builder)
        built.look_up()
        return built


class Snapshot:
    """A copy of the project that processes are started from. Made when the project's content is new."""

    step = "image"
    title = "snapshot of the project"
    needs: tuple[str, ...] = ()
    fixed: frozenset[str] = frozenset()

    def __init__(self, images: ProcessImages, stack: str, project: Path, progress: Progress) -> None:
        self._images = images
        self._stack = stack
        self._project = project
        self._progress = progress

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        return {}

    def read(self) -> State | None:
        reference = self._images.find(self._project, self._stack)
        return self._state(reference) if reference else None

    def create(self, inputs: Inputs) -> State:
        return self._state(self._images.build(self._project, self._stack, self._progress))

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        return state

    def delete(self, state: State) -> None:
        self._images.remove(self._stack)

    @staticmethod
    def _state(reference: str) -> State:
        return State({"uri": reference, "architecture": this_machine()})


class EveryImage:
    """For `down`: the snapshots of a stack, and what its builds and tasks left in the Docker engine, if there is one.

    Args:
        repository: The URI of the stack's repository in the engine's ECR.
    """

    step = "image"
    title = "images of the project"
    needs: tuple[str, ...] = ()
    fixed: frozenset[str] = frozenset()

    def __init__(self, images: ProcessImages, stack: str, repository: str) -> None:
        self._images = images
        self._stack = stack
        self._repository = repository

    def desired(self, inputs: Inputs) -> Mapping[str, Any]:
        return {}

    def read(self) -> State | None:
        return State()

    def create(self, inputs: Inputs) -> State:
        raise ValueError("there is no project to build an image from")

    def update(self, state: State, changed: frozenset[str], inputs: Inputs) -> State:
        return state

    def delete(self, state: State) -> None:
        # Only here: the Docker SDK takes a tenth of a second to import.
        from asyncjobs.image.docker_builder import DockerBuilder
        from asyncjobs.image.engine import connect

        self._images.remove(self._stack)
        with suppress(NoEngineError), closing(connect()) as client:
            DockerBuilder(client).remove(self._repository)
