"""Wires the engine's parts together, and starts and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Mapping, MutableMapping

from asyncjobs.image.engine import connect
from asyncjobs.local.access import Endpoint
from asyncjobs.local.autoscaler import Autoscaler
from asyncjobs.local.boto_cloud import BotoCloud
from asyncjobs.local.bridge import Bridge
from asyncjobs.local.containers import ContainerRunner
from asyncjobs.local.dataplane import DataPlane, RestApiHooks
from asyncjobs.local.ecs_calls import service_exists
from asyncjobs.local.gateway import Gateway, Parts
from asyncjobs.local.listeners import ApiListeners
from asyncjobs.local.ministack_app import DEFAULT_ACCOUNT, AsgiApp, Message, Ministack, Receive, Scope, Send
from asyncjobs.local.ministack_ecs import EcsTasks
from asyncjobs.local.paths import EnginePaths
from asyncjobs.local.ports import Ports
from asyncjobs.local.presence import Presence
from asyncjobs.local.registry import LocalRegistry
from asyncjobs.local.runners import Runners
from asyncjobs.local.saver import StateSaver
from asyncjobs.local.scaling_api import ScalingApi
from asyncjobs.local.scaling_store import ScalingStore
from asyncjobs.local.tasks import ProcessRunner
from asyncjobs.local.watchdog import TaskRegister

# Tasks get this long to hand their work back when the engine stops.
STOP_GRACE_SECONDS = 10.0
# The rest of a stop after the state is saved; past it the process ends itself, whoever still holds a connection.
_LAST_SECONDS = 20.0
_TICK_SECONDS = 1.0


class Engine:
    """Everything that runs inside the engine's process."""

    def __init__(
        self, paths: EnginePaths, ports: Ports, endpoint: Endpoint, presence: Presence, docker_env: Mapping[str, str]
    ) -> None:
        self._paths = paths
        self._endpoint = endpoint
        self._presence = presence
        self._ministack = Ministack()
        self._saver = StateSaver(self._ministack)
        self._register = TaskRegister(paths, docker_env)
        registry = LocalRegistry(paths, endpoint, functools.partial(self._saver.touch, "ecr"))
        self._containers = ContainerRunner(
            paths.engine_id,
            functools.partial(connect, docker_env),
            lambda address: self._bridge.listen(address),
            registry.login,
            self._register,
        )
        runners = Runners(ProcessRunner(paths, self._register, endpoint), self._containers)
        self._tasks = EcsTasks(runners, self._saver.touch_from_thread)
        store = ScalingStore(paths, DEFAULT_ACCOUNT)
        clouds: MutableMapping[str, BotoCloud] = {}
        self._autoscaler = Autoscaler(store, _per_region(clouds, endpoint))
        scaling = ScalingApi(store, _exists, self._autoscaler.wake)
        self._listeners = ApiListeners(ports, self._ministack.rest_api_region, self._data_plane)
        self._homeless = False
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []
        parts = Parts(
            emulator=self._with_ready(RestApiHooks(self._ministack.asgi, paths.root)),
            api_url=self._listeners.url,
            api_deleted=self._listeners.prune,
            stacks=self._ministack.stacks,
            scaling=scaling.handle,
            metadata=self._ministack.task_metadata,
            protection=self._tasks.protection.agent,
            touch=self._saver.touch,
            message_sent=self._autoscaler.wake,
            shutdown=self.request_stop,
            registry=registry.app,
            containers=self._containers.unavailable,
            running=self._tasks.running,
        )
        self.gateway = Gateway(parts, access_key=endpoint.access_key, token=presence.token)
        self._bridge = Bridge(self.gateway, endpoint)
        self._register.reap_leftovers()
        self._tasks.install()

    async def emulator_ready(self) -> None:
        await self._ready.wait()

    async def start(self) -> None:
        """Start what needs the emulator's state to be loaded."""
        self._tasks.settle_restored()
        self._background = [asyncio.create_task(self._saver.run()), asyncio.create_task(self._tick())]
        await self._listeners.restore()
        self._autoscaler.start()

    def request_stop(self) -> None:
        self._stop.set()

    async def stopped(self) -> None:
        """Wait for the wish to stop, then end tasks while their AWS is still there, and save."""
        await self._stop.wait()
        await asyncio.to_thread(self._autoscaler.close)
        await asyncio.to_thread(self._tasks.close, STOP_GRACE_SECONDS)
        if self._homeless:
            # Whatever is still saved now would bring back a directory that somebody deleted.
            os._exit(0)
        for task in self._background:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._saver.close()
        await self._listeners.close()
        await self._bridge.close()
        last = threading.Timer(_LAST_SECONDS, os._exit, args=(0,))
        last.daemon = True
        last.start()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            await asyncio.to_thread(self._tasks.tick)
            if not await asyncio.to_thread(self._presence.confirm):
                self._homeless = True
                self.request_stop()

    def _data_plane(self, rest_api_id: str, region: str) -> DataPlane:
        return DataPlane(
            rest_api_id,
            endpoint_url=self._endpoint.url,
            region=region,
            state_dir=self._paths.root,
            access_key=self._endpoint.access_key,
            secret_key=self._endpoint.secret_key,
        )

    def _with_ready(self, app: AsgiApp) -> AsgiApp:
        """Notice when the emulator has loaded its state."""

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            async def notice(message: Message) -> None:
                if message["type"] == "lifespan.startup.complete":
                    self._ready.set()
                await send(message)

            await app(scope, receive, notice if scope["type"] == "lifespan" else send)

        return wrapped


def _exists(region: str, cluster: str, service: str) -> bool:
    return service_exists(DEFAULT_ACCOUNT, region, cluster, service)


def _per_region(clouds: MutableMapping[str, BotoCloud], endpoint: Endpoint) -> Callable[[str], BotoCloud]:
    """One set of clients per region, made when a region first has something to scale."""

    def cloud(region: str) -> BotoCloud:
        if region not in clouds:
            clouds[region] = BotoCloud(endpoint, region)
        return clouds[region]

    return cloud
