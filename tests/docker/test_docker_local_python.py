"""The local target's containers from an image that no Docker engine built."""

from __future__ import annotations

from pathlib import Path

from docker import DockerClient
from local_stack import HANDLER, Stack, until


def test_a_stack_whose_image_no_docker_engine_built(
    engine: DockerClient, registry: str, base_image: str, tmp_path: Path
) -> None:
    base = f"{registry}/base-of-a-local-stack"
    engine.images.get(base_image).tag(base, "3")
    engine.images.push(base, "3")
    engine.images.remove(f"{base}:3")
    stack = Stack(tmp_path, engine, f"{base}:3")
    try:
        stack.run("up", "--local", "--builder", "python")
        stack.remember_repository()
        (container,) = stack.containers()
        assert container.attrs["HostConfig"]["ReadonlyRootfs"]
        assert stack.ended(stack.submit(name="first"))["result"] == {
            "version": 1,
            "uid": 10001,
            "host": container.id[:12],
        }
        assert "neither built nor pushed" in stack.run("up", "--local", "--builder", "python").stderr
        stack.write("handler.py", HANDLER.replace("VERSION = 1", "VERSION = 2"))
        stack.run("up", "--local", "--builder", "python")
        until(lambda: stack.ended(stack.submit(name="second"))["result"]["version"] == 2)
        assert "nothing is left" in stack.run("down").stderr
        assert stack.left() == []
    finally:
        stack.end()
