"""Images built without an engine, against a registry in this process and wheels in a folder."""

from __future__ import annotations

import errno
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import image_parts as parts
import pytest
from fake_registry import FakeRegistry, Fault, digest_of, error, serving
from image_parts import ALPINE, DEBIAN, OFFICIAL, make_project, make_wheel

from asyncjobs.errors import ConfigError, DockerError, ExitCode, TagTakenError
from asyncjobs.image import dockerfile, wheels
from asyncjobs.image.blobs import BlobCache
from asyncjobs.image.python_builder import PythonBuilder
from asyncjobs.image.recipe import Repository
from asyncjobs.progress import RecordingProgress

UV = wheels.find_uv()
INSTALLERS = [
    pytest.param(None, id="pip"),
    pytest.param(UV, id="uv", marks=pytest.mark.skipif(UV is None, reason="uv is not installed")),
]


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with serving(FakeRegistry()) as registry:
        yield registry


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where libraries come from: a folder of wheels, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    make_wheel(folder, "tones", scripts={"tone": "tones.cli:main"})
    return folder


class Site:
    """A person's machine with a project, and a registry."""

    def __init__(self, fake: FakeRegistry, folder: Path) -> None:
        self.fake = fake
        self.folder = folder
        self.progress = RecordingProgress()

    def builder(self, uv: str | None = UV, cache: str = "cache") -> PythonBuilder:
        return PythonBuilder(BlobCache(self.folder / cache), uv, sleep=lambda _seconds: None)

    def publish(
        self,
        project: Path,
        builder: PythonBuilder | None = None,
        image: str = "python:3",
        architecture: str = "x86_64",
        repository: str = "demo",
    ) -> tuple[str, str]:
        """Digest and tag."""
        builder = builder or self.builder()
        base = builder.base(f"{self.fake.host}/{image}", architecture)  # type: ignore[arg-type]
        recipe = parts.recipe(project, base)
        target = Repository(f"{self.fake.host}/{repository}", "AWS", "secret", insecure=True)
        return builder.publish(recipe, target, recipe.tag, self.progress), recipe.tag


@pytest.fixture
def site(fake: FakeRegistry, tmp_path: Path, index: Path) -> Site:
    parts.add_image(fake, DEBIAN)
    return Site(fake, tmp_path)


class TestImage:
    def test_it_has_the_base_the_libraries_and_the_code(self, site: Site, tmp_path: Path) -> None:
        digest, tag = site.publish(make_project(tmp_path / "p"))
        base, libraries, code = parts.layers(site.fake, tag)
        assert "usr/bin/python3.9" in base
        site_packages = "venv/lib/python3.9/site-packages"
        assert {f"{site_packages}/tones/__init__.py", "venv/pyvenv.cfg", "venv/bin/tone"} <= set(libraries)
        assert {"app/handler.py", f"{site_packages}/asyncjobs/__init__.py"} <= set(code)
        assert f"{site_packages}/asyncjobs-0.1.0.dist-info/METADATA" in code
        assert not any("asyncjobs" in path for path in libraries)
        assert libraries["venv/bin/python"].linkname == "/usr/bin/python3.9"
        assert digest == digest_of(site.fake.manifests["demo"][tag][0])

    def test_it_starts_as_the_dockerfile_s_does(self, site: Site, tmp_path: Path) -> None:
        _, tag = site.publish(make_project(tmp_path / "p"))
        document = parts.config(site.fake, tag)
        settings = document["config"]
        assert settings["User"] == "10001:10001"
        assert settings["WorkingDir"] == "/app"
        assert settings["Cmd"] == ["python", "-m", "asyncjobs.worker"]
        assert "Entrypoint" not in settings
        assert "PATH=/venv/bin:/usr/local/bin:/usr/bin" in settings["Env"]
        assert "LANG=C.UTF-8" in settings["Env"]
        assert settings["Labels"] == {"from": "base"}
        assert (document["architecture"], document["os"]) == ("amd64", "linux")
        said = [line.split(" ", 1) for line in dockerfile.ours().rpartition("FROM ")[2].splitlines()]
        lines = {words[0]: words[1] for words in said if len(words) == 2}
        assert lines["USER"] == settings["User"]
        assert lines["WORKDIR"] == settings["WorkingDir"]
        assert lines["ENTRYPOINT"] == "[]"
        assert json.loads(lines["CMD"]) == settings["Cmd"]
        assert {lines["VOLUME"]: {}} == settings["Volumes"] == {"/tmp": {}}
        assert len(document["rootfs"]["diff_ids"]) == len(document["history"]) == 3

    def test_its_programs_start_with_its_python(self, site: Site, tmp_path: Path, index: Path) -> None:
        shell = {"bell-1.0.data/scripts/ring": "#!python\nprint('ring')\n", "bell/__init__.py": ""}
        make_wheel(index, "bell", files=shell)
        _, tag = site.publish(make_project(tmp_path / "p", requirements="bell\n"))
        text = parts.read(site.fake, tag, "venv/bin/tone").decode()
        assert text.splitlines()[0] == "#!/venv/bin/python"
        assert "from tones.cli import main" in text
        assert parts.read(site.fake, tag, "venv/bin/ring") == b"#!/venv/bin/python\nprint('ring')\n"
        assert parts.layers(site.fake, tag)[1]["venv/bin/ring"].mode == 0o755

    @pytest.mark.parametrize("uv", INSTALLERS)
    def test_what_holds_for_the_image_is_installed(
        self, site: Site, tmp_path: Path, index: Path, uv: str | None
    ) -> None:
        """Neither this machine's platform nor the running Python counts: the image has 3.9, on Linux."""
        requires = [
            'old; python_version < "3.10"',
            'new; python_version >= "3.10"',
            'mac; sys_platform == "darwin"',
            'intel; platform_machine == "x86_64"',
            'arm; platform_machine == "aarch64"',
        ]
        make_wheel(index, "wants", requires=requires)
        for name in ("old", "new", "mac", "intel", "arm"):
            make_wheel(index, name)
        project = make_project(tmp_path / "p", requirements="wants\n")
        for architecture, machine in (("x86_64", "intel"), ("arm64", "arm")):
            _, tag = site.publish(project, site.builder(uv), architecture=architecture)
            has = {path.split("/")[4] for path in parts.layers(site.fake, tag)[1] if path.count("/") > 4}
            assert {name for name in has if "-" not in name} == {"tones", "wants", "old", machine}

    @pytest.mark.parametrize("uv", INSTALLERS)
    @pytest.mark.parametrize(
        ("image", "architecture", "tags"),
        [
            ("debian", "x86_64", ["cp39-cp39-manylinux_2_28_x86_64", "cp37-abi3-manylinux2014_x86_64", "py3-none-any"]),
            ("debian", "arm64", ["cp39-cp39-manylinux_2_17_aarch64", "cp39-cp39-manylinux2014_aarch64"]),
            ("official", "x86_64", ["cp312-cp312-manylinux_2_31_x86_64", "cp312-cp312-manylinux_2_17_x86_64"]),
            ("alpine", "x86_64", ["cp312-cp312-musllinux_1_1_x86_64", "cp312-cp312-musllinux_1_2_x86_64"]),
        ],
    )
    def test_wheels_fit_the_image(
        self, site: Site, tmp_path: Path, index: Path, uv: str | None, image: str, architecture: str, tags: list[str]
    ) -> None:
        for name, top in (("debian", {}), ("official", OFFICIAL), ("alpine", ALPINE)):
            parts.add_image(site.fake, *([DEBIAN] if name != "alpine" else []), top, name=name)
        names = [f"fast{number}" for number in range(len(tags))]
        for name, tag in zip(names, tags, strict=True):
            make_wheel(index, name, tag=tag)
        project = make_project(tmp_path / "p", requirements="\n".join(names))
        _, made = site.publish(project, site.builder(uv), f"{image}:3", architecture)
        version = "3.9" if image == "debian" else "3.12"
        has = parts.layers(site.fake, made)[-2]
        assert all(f"venv/lib/python{version}/site-packages/{name}/__init__.py" in has for name in names)

    @pytest.mark.parametrize("uv", INSTALLERS)
    def test_a_library_without_a_wheel_for_it_is_named(
        self, site: Site, tmp_path: Path, index: Path, uv: str | None
    ) -> None:
        for tag in (
            "cp39-cp39-manylinux_2_40_x86_64",
            "cp39-cp39-manylinux_2_17_aarch64",
            "cp310-cp310-manylinux_2_17_x86_64",
            "cp39-cp39-musllinux_1_2_x86_64",
            "cp39-cp39-macosx_11_0_arm64",
        ):
            make_wheel(index, "native_thing", tag=tag)
        make_wheel(index, "wants", requires=["native-thing>=1"])
        project = make_project(tmp_path / "p", requirements="wants\n")
        with pytest.raises(DockerError, match="native-thing") as caught:
            site.publish(project, site.builder(uv))
        assert caught.value.exit_code == ExitCode.DOCKER
        assert "--builder docker" in caught.value.hint

    def test_a_library_with_only_a_source_is_named(self, site: Site, tmp_path: Path, index: Path) -> None:
        with tarfile.open(index / "onlysource-1.0.tar.gz", "w:gz"):
            pass
        with pytest.raises(DockerError, match="onlysource"):
            site.publish(make_project(tmp_path / "p", requirements="onlysource\n"))

    def test_a_project_s_asyncjobs_is_the_one_that_brings_it_up(self, site: Site, tmp_path: Path) -> None:
        _, tag = site.publish(make_project(tmp_path / "p", requirements="asyncjobs>=0.1\n"))
        assert parts.read(site.fake, tag, "venv/lib/python3.9/site-packages/asyncjobs/__init__.py") == b"x = 1\n"


class TestReproducible:
    def test_the_same_from_another_folder_with_other_times_and_modes(self, site: Site, tmp_path: Path) -> None:
        first = make_project(tmp_path / "one", requirements="tones\n")
        os.utime(first / "handler.py", (1, 1))
        was = os.umask(0o077)
        try:
            second = make_project(tmp_path / "two" / "deeper", requirements="tones\n")
            made = [
                site.publish(first, site.builder(cache="a"))[0],
                site.publish(second, site.builder(cache="b"), repository="other")[0],
            ]
        finally:
            os.umask(was)
        assert made[0] == made[1]

    @pytest.mark.skipif(UV is None, reason="uv is not installed")
    def test_the_same_from_pip_and_from_uv(self, site: Site, tmp_path: Path, index: Path) -> None:
        make_wheel(
            index, "bell", files={"bell-1.0.data/scripts/ring": "#!python\n", "bell/__init__.py": "", "bell.py": ""}
        )
        project = make_project(tmp_path / "p", requirements="bell\n")
        pip = site.publish(project, site.builder(None, cache="a"))
        assert site.publish(project, site.builder(UV, cache="b"), repository="other") == pip

    def test_nothing_of_this_machine_is_in_a_layer(self, site: Site, tmp_path: Path) -> None:
        _, tag = site.publish(make_project(tmp_path / "p"))
        for layer in parts.layers(site.fake, tag)[1:]:
            for entry in layer.values():
                assert (entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname) == (0, 0, 0, "", "")
                assert entry.mode in ((0o777,) if entry.issym() else (0o644, 0o755))
            assert not [path for path in layer if path.endswith((".pyc", "INSTALLER", "REQUESTED", "direct_url.json"))]

    def test_folders_come_before_what_is_in_them(self, site: Site, tmp_path: Path) -> None:
        project = make_project(tmp_path / "p")
        (project / "a" / "b").mkdir(parents=True)
        (project / "a" / "b" / "data").write_bytes(b"1")
        _, tag = site.publish(project)
        names = list(parts.layers(site.fake, tag)[-1])
        assert names.index("app") < names.index("app/a") < names.index("app/a/b") < names.index("app/a/b/data")

    def test_programs_and_links_stay_what_they_are(self, site: Site, tmp_path: Path) -> None:
        project = make_project(tmp_path / "p", run="#!/bin/sh\n")
        (project / "run").chmod(0o700)
        (project / "link").symlink_to("run")
        _, tag = site.publish(project)
        code = parts.layers(site.fake, tag)[-1]
        assert code["app/run"].mode == 0o755
        assert code["app/link"].linkname == "run"


class TestAgain:
    def test_unchanged_nothing_is_sent(self, site: Site, tmp_path: Path) -> None:
        project = make_project(tmp_path / "p")
        first = site.publish(project)
        site.fake.requests.clear()
        assert site.publish(project) == first
        assert set(site.fake.methods) == {"HEAD", "GET"}
        assert site.fake.methods["GET"] == 1  # what the base image's tag stands for now

    def test_other_code_is_one_small_layer(self, site: Site, tmp_path: Path, index: Path) -> None:
        project = make_project(tmp_path / "p")
        site.publish(project)
        for wheel in index.iterdir():
            wheel.unlink()  # nothing is installed again
        (project / "handler.py").write_text("def handle(job): return 1\n", encoding="utf-8")
        site.fake.requests.clear()
        site.publish(project)
        assert site.fake.count("PUT", "/blobs/") == 2  # the layer and the configuration
        assert site.fake.count("GET", "/blobs/") == 0

    def test_other_requirements_are_installed(self, site: Site, tmp_path: Path, index: Path) -> None:
        make_wheel(index, "bell")
        project = make_project(tmp_path / "p", more="")
        site.publish(project)
        (project / "more").write_text("bell\n", encoding="utf-8")
        (project / "requirements.txt").write_text("-r more\n", encoding="utf-8")
        _, tag = site.publish(project)
        assert "venv/lib/python3.9/site-packages/bell/__init__.py" in parts.layers(site.fake, tag)[1]

    def test_a_cache_that_lost_its_layer_makes_it_again(self, site: Site, tmp_path: Path) -> None:
        project = make_project(tmp_path / "p")
        digest, tag = site.publish(project)
        libraries = json.loads(site.fake.manifests["demo"][tag][0])["layers"][1]["digest"]
        (tmp_path / "cache" / libraries.replace(":", "-")).unlink()
        assert site.publish(project, repository="other")[0] == digest

    def test_a_cache_whose_files_lost_their_content_is_filled_again(self, site: Site, tmp_path: Path) -> None:
        project = make_project(tmp_path / "p")
        digest, _ = site.publish(project)
        for file in (tmp_path / "cache").glob("[!t]*"):  # not tmp-*, which is being deleted
            file.write_bytes(b"")
        assert site.publish(project, repository="other")[0] == digest

    def test_a_new_repository_gets_the_base_from_this_machine(self, site: Site, tmp_path: Path) -> None:
        project = make_project(tmp_path / "p")
        site.publish(project)
        site.fake.requests.clear()
        site.publish(project, repository="other")
        assert site.fake.count("GET", "/blobs/") == 0

    def test_in_the_same_registry_the_base_is_mounted(self, site: Site, tmp_path: Path) -> None:
        site.fake.mounts = True
        site.publish(make_project(tmp_path / "p"))
        assert site.fake.count("PUT", "/blobs/") == 3  # libraries, code and configuration

    def test_a_push_that_broke_goes_on(self, site: Site, tmp_path: Path) -> None:
        project = make_project(tmp_path / "p")
        site.fake.faults.append(Fault("PUT", "/manifests/", 403, error("DENIED", "not now")))
        with pytest.raises(DockerError):
            site.publish(project)
        site.fake.requests.clear()
        site.publish(project)
        assert site.fake.count("PUT", "/blobs/") == 0

    def test_a_tag_of_another_image_stays(self, site: Site, tmp_path: Path) -> None:
        project = make_project(tmp_path / "p")
        builder = site.builder()
        tag = parts.recipe(project, builder.base(f"{site.fake.host}/python:3", "x86_64")).tag
        site.fake.add_manifest("demo", tag, {"another": "image"}, "x")
        with pytest.raises(TagTakenError):
            site.publish(project, builder)
        assert b"another" in site.fake.manifests["demo"][tag][0]

    def test_a_project_that_changes_meanwhile_is_not_pushed(self, site: Site, tmp_path: Path) -> None:
        project = make_project(tmp_path / "p")
        builder = site.builder()
        recipe = parts.recipe(project, builder.base(f"{site.fake.host}/python:3", "x86_64"))
        target = Repository(f"{site.fake.host}/demo", "AWS", "secret", insecure=True)
        tag = recipe.tag
        (project / "handler.py").write_text("changed", encoding="utf-8")
        with pytest.raises(ConfigError, match="changed while"):
            builder.publish(recipe, target, tag, site.progress)
        assert "demo" not in site.fake.manifests or not site.fake.manifests["demo"]


class TestBase:
    def test_an_index_is_known_by_its_own_digest(self, site: Site) -> None:
        found = site.builder().base(f"{site.fake.host}/python:3", "arm64")
        assert found.digest == digest_of(site.fake.manifests["python"]["3"][0])
        assert found.architecture == "arm64"

    def test_an_image_of_one_architecture(self, site: Site) -> None:
        digest = parts.add_image(site.fake, DEBIAN, name="single", architectures=["arm64"], index=False)
        found = site.builder().base(f"{site.fake.host}/single:3", "auto")
        assert (found.digest, found.architecture) == (digest, "arm64")

    @pytest.mark.parametrize("index", [True, False])
    def test_a_missing_architecture_is_said(self, site: Site, index: bool) -> None:
        parts.add_image(site.fake, DEBIAN, name="single", architectures=["arm64"], index=index)
        with pytest.raises(DockerError, match="not there for x86_64") as caught:
            site.builder().base(f"{site.fake.host}/single:3", "x86_64")
        assert "arm64" in caught.value.why

    def test_a_missing_image_is_said(self, site: Site) -> None:
        with pytest.raises(DockerError, match="There is no image"):
            site.builder().base(f"{site.fake.host}/python:4", "auto")

    def test_it_is_built_on_what_the_tag_stood_for(self, site: Site, tmp_path: Path) -> None:
        builder = site.builder()
        recipe = parts.recipe(make_project(tmp_path / "p"), builder.base(f"{site.fake.host}/python:3", "x86_64"))
        parts.add_image(site.fake, DEBIAN, OFFICIAL)
        target = Repository(f"{site.fake.host}/demo", "AWS", "secret", insecure=True)
        builder.publish(recipe, target, recipe.tag, site.progress)
        assert len(parts.layers(site.fake, recipe.tag)) == 3

    @pytest.mark.parametrize(
        ("layers", "python"),
        [
            ([DEBIAN], "/usr/bin/python3.9"),
            ([DEBIAN, OFFICIAL], "/usr/local/bin/python3.12"),
            (
                [{**DEBIAN, "usr/bin/python3": "/opt/py/bin/python3.13", "opt/py/bin/python3.13": b""}],
                "/opt/py/bin/python3.13",
            ),
            ([DEBIAN, {"usr/local/bin/python3": "../../bin/python3.9"}], "/usr/bin/python3.9"),
        ],
    )
    def test_its_python_is_what_python3_starts(
        self, site: Site, tmp_path: Path, layers: list[dict[str, str | bytes]], python: str
    ) -> None:
        parts.add_image(site.fake, *layers)
        _, tag = site.publish(make_project(tmp_path / "p"))
        assert parts.layers(site.fake, tag)[-2]["venv/bin/python"].linkname == python

    @pytest.mark.parametrize(
        "layers", [[{"bin/sh": b""}], [OFFICIAL], [{"usr/local/bin/python3": "python3", "lib/libc.so.6": parts.GLIBC}]]
    )
    def test_one_without_python_is_said(self, site: Site, tmp_path: Path, layers: list[dict[str, str | bytes]]) -> None:
        parts.add_image(site.fake, *layers)
        with pytest.raises(DockerError, match="No Python is found"):
            site.publish(make_project(tmp_path / "p"))

    def test_a_layer_that_cannot_be_read_is_said(self, site: Site, tmp_path: Path) -> None:
        document = json.loads(site.fake.manifests["python"]["3"][0])
        part = site.fake.manifests["python"][document["manifests"][0]["digest"]][0]
        changed = json.loads(part)
        changed["layers"][0] |= parts.blob(site.fake, "python", b"(\xb5/\xfd zstd")
        site.fake.add_manifest("python", "3", changed, "application/vnd.oci.image.manifest.v1+json")
        with pytest.raises(DockerError, match="cannot be read") as caught:
            site.publish(make_project(tmp_path / "p"))
        assert caught.value.hint

    @pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"config": {}}'])
    def test_what_is_no_image_is_said(self, site: Site, answer: bytes) -> None:
        site.fake.repository("python")[1]["3"] = answer, "text/html"
        with pytest.raises(DockerError):
            site.builder().base(f"{site.fake.host}/python:3", "auto")


class TestRequirements:
    @pytest.mark.parametrize(
        "line",
        [
            "-e .",
            "--editable ./lib",
            "./lib",
            "/opt/lib",
            "git+https://example.org/lib.git",
            "lib @ git+ssh://git@example.org/lib.git",
            "lib @ file:///opt/lib",
            "file:///opt/lib",
        ],
    )
    def test_what_is_no_wheel_is_said(self, site: Site, tmp_path: Path, line: str) -> None:
        project = make_project(tmp_path / "p", requirements="-r others.txt\n")
        (project / "others.txt").write_text(f"tones\n{line}  # why\n", encoding="utf-8")
        with pytest.raises(DockerError, match="is no wheel") as caught:
            site.publish(project)
        assert line in caught.value.what
        assert "--builder docker" in caught.value.hint

    def test_a_file_that_is_not_there_is_said(self, site: Site, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"others\.txt cannot be read"):
            site.publish(make_project(tmp_path / "p", requirements="-r others.txt\n"))

    def test_an_ignored_file_is_not_read(self, site: Site, tmp_path: Path) -> None:
        project = make_project(tmp_path / "p", requirements="-e .\n")
        (project / ".dockerignore").write_text("requirements.txt\n", encoding="utf-8")
        site.publish(project)

    def test_without_uv_and_pip_it_says_what_to_do(
        self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
        with pytest.raises(DockerError, match="Neither uv nor pip") as caught:
            site.publish(make_project(tmp_path / "p"), site.builder(None))
        assert "uv" in caught.value.hint


class TestCache:
    def test_a_full_disk_is_said(self, tmp_path: Path) -> None:
        def make(_file: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(DockerError, match="is full") as caught:
            BlobCache(tmp_path).get("sha256:1", make)
        assert caught.value.exit_code == ExitCode.DOCKER
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_cannot_be_made_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(DockerError, match="cannot be used"):
            BlobCache(tmp_path / "file").get("sha256:1", Path.touch)

    def test_what_two_ask_for_is_made_once(self, tmp_path: Path) -> None:
        cache, made, both = BlobCache(tmp_path), [], threading.Barrier(2)

        def make(file: Path) -> None:
            made.append(file)
            file.write_bytes(b"made")

        def ask() -> None:
            both.wait()
            cache.get("sha256:1", make)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1

    def test_what_was_not_used_for_a_month_goes(self, tmp_path: Path) -> None:
        cache = BlobCache(tmp_path)
        for name in ("old", "used"):
            cache.get(name, lambda file: file.write_bytes(b"made"))
        (tmp_path / "tmp-killed").mkdir()
        for path in tmp_path.iterdir():
            os.utime(path, (1000, 1000))
        cache.find("used")
        cache.clear(now=1000 + 31 * 86400)
        assert [path.name for path in tmp_path.iterdir()] == ["used"]


def test_a_private_base_takes_the_login_that_docker_keeps(site: Site, tmp_path: Path) -> None:
    site.fake.auth = "basic"
    login = {"auths": {site.fake.host: {"auth": "QVdTOnNlY3JldA=="}}}
    (tmp_path / "config.json").write_text(json.dumps(login), encoding="utf-8")
    assert replace(site.builder().base(f"{site.fake.host}/python:3", "auto")).digest
