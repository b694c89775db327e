"""Runs the containers of ECS tasks on a Docker engine of this machine.

Every container, volume and network made here carries the label of its engine, by which leftovers are found. Their
output is read from the moment they start, and they are removed when they have ended.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from asyncjobs.errors import AsyncJobsError
from asyncjobs.local.access import Endpoint
from asyncjobs.local.container_options import ENGINE_LABEL, create_arguments
from asyncjobs.local.tasks import ContainerExit, ContainerSpec, Health, LineSplitter, RunningContainer, StartError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

logger = logging.getLogger(__name__)

# What ECS says of a container that the kernel ended for its memory.
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
KILLED = 137
_RETRY_SECONDS = 1.0
# docker-py raises its own errors, and those of requests and of sockets, which are OSErrors.
DockerFailure = (DockerException, OSError)


class ContainerRegister(Protocol):
    """Who ends an engine's containers when the engine cannot."""

    def containers(self, *, used: bool) -> None: ...


class ContainersUnavailableError(StartError):
    """No containers can be run here.

    Args:
        why: In one line.
    """

    def __init__(self, why: str) -> None:
        super().__init__(f"CannotStartContainerError: {why}")
        self.why = why


class ContainerRunner:
    """Containers of one Docker engine, in a network of their own.

    Args:
        engine: Which local engine this is: what the label says.
        connect: A client of the Docker engine; an AsyncJobsError where there is none.
        listen: Has the local engine listen on an address of this machine, and returns where: an Endpoint.
        registry: The registry of the emulated ECR, "127.0.0.1:PORT", and the user name and password it wants.
        register: Remembers that there may be something of ours in Docker.
    """

    def __init__(
        self,
        engine: str,
        connect: Callable[[], DockerClient],
        listen: Callable[[str], Endpoint],
        registry: tuple[str, str, str],
        register: ContainerRegister,
    ) -> None:
        self._engine = engine
        self._connect = connect
        self._listen = listen
        self._registry = registry
        self._register = register
        self._lock = threading.Lock()
        self._pulling = threading.Lock()
        self._client: DockerClient | None = None
        self._endpoints: dict[str, Endpoint] = {}

    def endpoint(self) -> Endpoint:
        """Where containers reach the local engine, in a network that is made if it is not there: `docker network prune`
        takes it while no task runs.

        Raises:
            ContainersUnavailableError: There is no Docker engine, or it does not share this machine's network.
        """
        with self._lock:
            try:
                if self._client is None:
                    self._client = self._connect()
                    self._register.containers(used=True)
                gateway = _gateway(self._client, self._engine)
            except AsyncJobsError as error:
                raise ContainersUnavailableError(f"{error.what} {error.why}") from error
            except DockerFailure as error:
                raise ContainersUnavailableError(_reason(error)) from error
            if gateway not in self._endpoints:
                try:
                    self._endpoints[gateway] = self._listen(gateway)
                except OSError as error:
                    # Docker Desktop's runs in a virtual machine, a rootless one in a network of its own.
                    raise ContainersUnavailableError(
                        f"the Docker engine has another network than this machine ({gateway}: {error.strerror})"
                    ) from error
            return self._endpoints[gateway]

    def unavailable(self) -> str | None:
        """Why no containers can be run here; None when they can."""
        try:
            self.endpoint()
        except ContainersUnavailableError as error:
            return error.why
        return None

    def start(self, spec: ContainerSpec) -> RunningContainer:
        self.endpoint()
        client = self._client
        assert client is not None
        try:
            self._have(client, spec.image)
            declared = client.images.get(spec.image).attrs["Config"].get("Volumes") or {}
        except DockerFailure as error:
            raise StartError(f"CannotPullContainerError: {_reason(error)}") from error
        try:
            container = client.containers.create(
                spec.image, network=network_name(self._engine), **create_arguments(spec, self._engine, declared)
            )
        except DockerFailure as error:
            raise StartError(f"CannotCreateContainerError: {_reason(error)}") from error
        try:
            # Before it starts, so that not one line is lost.
            output = container.attach(stdout=True, stderr=True, stream=True)
            container.start()
        except DockerFailure as error:
            _remove(container)
            raise StartError(f"CannotStartContainerError: {_reason(error)}") from error
        return _RunningContainer(container, output, spec)

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                with suppress(*DockerFailure):
                    remove_leftovers(self._client, self._engine)
                    self._register.containers(used=False)
                self._client.close()
            self._client = None

    def _have(self, client: DockerClient, image: str) -> None:
        """Pull an image: by digest once; by tag each time, because it may have changed, unless no registry has it."""
        repository, _, version = image.partition("@")
        with self._pulling:  # tasks of one service want the same image at the same time
            here = _is_here(client, image)
            if here and version:
                return
            if not version:
                repository, version = _split_tag(image)
            host, username, password = self._registry
            login = {"username": username, "password": password} if repository.startswith(f"{host}/") else None
            try:
                for line in client.api.pull(repository, version, auth_config=login, stream=True, decode=True):
                    if "error" in line:  # what fails once the download has begun
                        raise DockerException(line["error"])
            except DockerFailure:
                if not here:
                    raise


class _RunningContainer:
    def __init__(self, container: Container, output: Any, spec: ContainerSpec) -> None:
        self._container = container
        self._output = output
        self._spec = spec
        self._stop_timer: threading.Timer | None = None
        self._reader = threading.Thread(target=self._read, name=f"log-{spec.task_id[:8]}", daemon=True)
        self._reader.start()

    @property
    def runtime_id(self) -> str:
        return str(self._container.id)

    @property
    def health(self) -> Health:
        try:
            state = _state(self._container) or {}
        except DockerFailure:
            return "UNKNOWN"
        if not state.get("Running"):
            return "UNKNOWN"  # Docker says "unhealthy" of what has ended
        status = state.get("Health", {}).get("Status")
        return "HEALTHY" if status == "healthy" else "UNHEALTHY" if status == "unhealthy" else "UNKNOWN"

    def wait(self) -> ContainerExit:
        state = self._ended()
        if self._stop_timer is not None:
            self._stop_timer.cancel()
        self._reader.join(timeout=5.0)
        _remove(self._container)
        if state is None:
            return ContainerExit(KILLED, "The container was removed by somebody else")
        code = int(state.get("ExitCode", KILLED))
        if state.get("OOMKilled") and code:
            return ContainerExit(code, OUT_OF_MEMORY)
        return ContainerExit(code, str(state.get("Error") or ""))

    def stop(self, within: float | None = None) -> None:
        # As with processes: one SIGTERM (or what the image wants instead), and a second call can only shorten the rest.
        if self._stop_timer is None:
            with suppress(*DockerFailure):
                self._container.kill(self._container.attrs.get("Config", {}).get("StopSignal") or "SIGTERM")
        timer = threading.Timer(self._spec.stop_seconds if within is None else within, self._kill)
        timer.daemon = True
        self._stop_timer = timer
        timer.start()

    def _kill(self) -> None:
        with suppress(*DockerFailure):
            self._container.kill("SIGKILL")

    def _ended(self) -> dict[str, Any] | None:
        """Block until it ended; how, or None when it is gone. The Docker engine may restart meanwhile."""
        while True:
            try:
                self._container.wait(timeout=None)
            except NotFound:
                return None
            except DockerFailure:
                time.sleep(_RETRY_SECONDS)
            try:
                state = _state(self._container)
            except DockerFailure:
                continue
            if state is None or not state.get("Running"):
                return state

    def _read(self) -> None:
        lines = LineSplitter()
        try:
            for chunk in self._output:
                self._emit(lines.feed(chunk))
        except DockerFailure:
            logger.exception("the output of container %s broke off", self._container.id)
        self._emit(lines.rest())

    def _emit(self, lines: list[str]) -> None:
        if lines:
            self._spec.log(lines)


def network_name(engine: str) -> str:
    return f"asyncjobs-{engine}"


def remove_leftovers(client: DockerClient, engine: str) -> None:
    """Remove every container, volume and network of a local engine."""
    ours: dict[str, str | list[str] | bool] = {"label": f"{ENGINE_LABEL}={engine}"}
    for container in client.containers.list(all=True, filters=ours, ignore_removed=True):
        _remove(container)
    for volume in client.volumes.list(filters=ours):
        with suppress(NotFound):
            volume.remove(force=True)
    for network in client.networks.list(filters=ours):
        with suppress(NotFound):
            network.remove()


def _gateway(client: DockerClient, engine: str) -> str:
    """The address of this machine in the containers' network, which is made if there is none."""
    name = network_name(engine)
    found = client.networks.list(names=[f"^{name}$"])
    if found:
        network = found[0]
    else:
        network = client.networks.create(
            name,
            driver="bridge",
            labels={ENGINE_LABEL: engine},
            # Tasks talk to the engine and to the world, not to each other: the stack's security group says the same.
            options={"com.docker.network.bridge.enable_icc": "false"},
        )
        network.reload()
    gateways = [each.get("Gateway") for each in network.attrs["IPAM"]["Config"] or []]
    address = next((gateway for gateway in gateways if gateway and ":" not in gateway), None)
    if address is None:
        raise ContainersUnavailableError(f"Docker gave the network {name} no gateway")
    return str(address).partition("/")[0]


def _is_here(client: DockerClient, image: str) -> bool:
    try:
        client.images.get(image)
    except ImageNotFound:
        return False
    return True


def _split_tag(image: str) -> tuple[str, str]:
    """Repository and tag. A colon before a slash is a port's."""
    head, colon, tag = image.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (image, "latest")


def _state(container: Container) -> dict[str, Any] | None:
    """Its state now; None when it is gone."""
    try:
        container.reload()
    except NotFound:
        return None
    state: dict[str, Any] = container.attrs["State"]
    return state


def _remove(container: Container) -> None:
    with suppress(*DockerFailure):
        container.remove(v=True, force=True)


def _reason(error: Exception) -> str:
    """What the Docker engine says, without the request that docker-py puts around it."""
    if isinstance(error, APIError) and error.explanation:
        return f"Error response from daemon: {error.explanation}".strip()
    return " ".join(str(error).split()) or type(error).__name__
