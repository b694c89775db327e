"""A Docker engine, a base image made from Debian, and a registry; without them tests are skipped and say so."""

from __future__ import annotations

import fcntl
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient
from loopback import await_port, free_port

from asyncjobs.errors import NoEngineError
from asyncjobs.image.engine import connect

DEBIAN = "asyncjobs-test-base:latest"
BASE = "asyncjobs-test-python:latest"
PACKAGES = "python3,python3-venv,ca-certificates"
# Half of it; every push of the base image would compress it. mmdebstrap itself leaves apt's lists and caches out.
UNUSED = ("usr/share/doc", "usr/share/locale", "usr/share/man")
# Without it Debian 12 gets a package that merges /usr, and all of perl, 50 MB, for it.
MERGED = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


@pytest.fixture(scope="session")
def engine() -> Iterator[DockerClient]:
    """A client of the machine's Docker engine."""
    try:
        client = connect()
    except NoEngineError as error:
        pytest.skip(f"{error.what} {error.why}")
    yield client
    client.close()


@pytest.fixture(scope="session")
def base_image(engine: DockerClient) -> str:
    """Debian with python3 and no `python`, and with the certificates that this machine trusts, a proxy's among them."""
    with (Path(tempfile.gettempdir()) / "asyncjobs-test-base.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes of one run would both take the half minute
        if not engine.images.list(name=DEBIAN):
            _import_debian(engine)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "ca-certificates.crt").write_bytes(BUNDLE.read_bytes())
            lines = (f"FROM {DEBIAN}", f"COPY ca-certificates.crt {BUNDLE}", "")
            (Path(folder) / "Dockerfile").write_text("\n".join(lines))
            engine.images.build(path=folder, tag=BASE, rm=True)
    return BASE


def _import_debian(engine: DockerClient) -> None:
    mmdebstrap = shutil.which("mmdebstrap")
    if mmdebstrap is None:
        pytest.skip("mmdebstrap is not installed, and no base image can be made without it")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "root.tar"
        # This machine's own release, whose keys it has.
        system = platform.freedesktop_os_release()
        release = system.get("VERSION_CODENAME", "stable") if system.get("ID") == "debian" else "stable"
        without = [f"--dpkgopt=path-exclude=/{path}/*" for path in UNUSED]
        options = ("--variant=minbase", f"--hook-dir={MERGED}", f"--include={PACKAGES}", *without)
        command = [mmdebstrap, *options, release, str(archive)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            pytest.skip(f"mmdebstrap does not work here: {done.stderr.strip()}")
        engine.api.import_image_from_file(str(archive), *DEBIAN.split(":"))


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's docker-registry on loopback: "127.0.0.1:PORT"."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    folder = tmp_path_factory.mktemp("registry")
    address = f"127.0.0.1:{free_port()}"
    settings = folder / "config.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{address}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{folder}/data'}}}}\n"
    )
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([program, "serve", settings], stdout=log, stderr=log) as process,
    ):
        try:
            await_port(address, process)
            yield address
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def pushed_base(engine: DockerClient, registry: str, base_image: str) -> Iterator[str]:
    """The base image in the registry, where a builder without an engine needs it."""
    name = f"{registry}/python"
    engine.images.get(base_image).tag(name, "3")
    engine.images.push(name, "3")
    yield f"{name}:3"
    engine.images.remove(f"{name}:3")
