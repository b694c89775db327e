"""Listening sockets, with ports that stay the same over restarts where they can."""

from __future__ import annotations

import socket
from typing import Any

from asyncjobs.local.paths import EnginePaths, read_json, write_json


class Ports:
    """Remembered ports by name: "engine", and REST API ids."""

    def __init__(self, paths: EnginePaths) -> None:
        self._paths = paths
        stored = read_json(paths.ports)
        found = stored.items() if isinstance(stored, dict) else ()
        self._ports: dict[str, int] = {name: port for name, port in found if type(port) is int and 0 < port < 65536}

    def listen(self, name: str) -> socket.socket:
        """A listening socket on this name's port, or on a free one when that is taken by now."""
        listener = bind(self._ports.get(name, 0))
        port = listener.getsockname()[1]
        if self._ports.get(name) != port:
            self._ports[name] = port
            write_json(self._paths.ports, self._ports)
        return listener

    def names(self) -> list[str]:
        return list(self._ports)

    def forget(self, name: str) -> None:
        if self._ports.pop(name, None) is not None:
            write_json(self._paths.ports, self._ports)


def bind(port: int, address: str = "127.0.0.1") -> socket.socket:
    """A listening socket on this port, or on a free one when that is taken.

    Raises:
        OSError: The address is none of this machine's.
    """
    try:
        return _bind(address, port)
    except OSError:
        return _bind(address, 0)


def _bind(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Connections of the last engine may still be in TIME_WAIT on this port.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def hypercorn_config(listener: socket.socket) -> Any:
    """A hypercorn configuration that serves on this socket and takes it over."""
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 2.0
    config.loglevel = "WARNING"
    config.accesslog = None
    config.errorlog = "-"
    return config
