"""The embedded engine, the demo and the page, from outside, and what is there when something of it dies."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import urllib3
from page import drive_page, launch_chromium
from projects import Stack, eventually, family, make_stack

pytest.importorskip("ministack", reason="the `local` extra is not installed")


def test_post_and_get_answer_while_a_long_job_runs(
    stack: Stack, api: tuple[str, dict[str, str]], http: urllib3.PoolManager
):
    """29 seconds are too long for API Gateway; the whole job takes longer than that."""
    url, headers = api
    job_id = http.request(
        "POST", f"{url}/jobs", body=b"sleep 32", headers={**headers, "content-type": "text/plain"}
    ).json()["jobId"]
    eventually(lambda: stack.json("status", job_id)["status"] == "RUNNING", "running")
    started = time.monotonic()
    stack.run("status", job_id, "--follow", "--timeout", "90")
    assert time.monotonic() - started > 29
    assert stack.json("status", job_id)["attempt"] == 1


def test_a_killed_worker_costs_no_job(stack: Stack):
    job_id = stack.submit("sleep 4")
    eventually(lambda: stack.json("status", job_id)["status"] == "RUNNING", "running")
    workers = [p for p in family(stack.state) if p.cmdline()[-1:] == ["asyncjobs.worker"]]
    assert workers
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
    stack.run("status", job_id, "--follow", "--timeout", "100")
    job = stack.json("status", job_id)
    assert (job["status"], job["attempt"], job["result"]["attempt"]) == ("SUCCEEDED", 2, 2)


def test_the_demo_in_json_is_one_document_and_leaves_nothing(tmp_path: Path):
    demo = Stack(tmp_path, tmp_path / "state", "demo")
    job = demo.json("demo")
    assert job["status"] == "SUCCEEDED"
    assert (job["result"]["words"], job["result"]["sentences"]) == (4270, 173)
    assert family(demo.state) == []
    assert list((demo.state / "demo").iterdir()) == []


def test_a_demo_that_is_told_to_end_tidies_up(tmp_path: Path):
    demo = Stack(tmp_path, tmp_path / "state", "demo")
    running = demo.start("demo")
    eventually(lambda: len(family(demo.state)) > 2, "the demo's workers")
    running.terminate()
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert family(demo.state) == []
    assert list((demo.state / "demo").iterdir()) == []


def test_a_dry_run_leaves_nothing_behind(tmp_path: Path):
    dry = make_stack(tmp_path / "dry", tmp_path / "state", "dry")
    assert dry.run("up", "--local", "--dry-run").stdout.count("create") == 17
    assert family(dry.state) == []
    assert not (dry.state / "stacks").exists()


def test_info_masks_the_key(stack: Stack, info: Any):
    shown, masked = info, stack.json("info")
    assert masked["apiKey"] != shown["apiKey"]
    assert {"stack", "target", "account", "region", "apiUrl", "queueUrl", "deadLetterQueueUrl", "table"} <= set(shown)
    assert {"bucket", "repository", "cluster", "service", "logGroup"} <= set(shown)
    assert shown["target"] == "local"


def test_the_page_is_served_and_the_document_is_openapi(api: tuple[str, dict[str, str]], http: urllib3.PoolManager):
    url, _ = api
    page = http.request("GET", f"{url}/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    template = Path(__file__).parents[2] / "templates" / "frontend" / "index.html"
    assert page.data.decode() == template.read_text()
    document = http.request("GET", f"{url}/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert "/jobs/{id}" in document["paths"]
    assert "amazonaws" not in json.dumps(document)


def test_a_person_with_a_browser(info: Any):
    with launch_chromium() as browser:
        page = browser.new_page()
        result = drive_page(page, f"{info['apiUrl']}/", info["apiKey"], "typed into the page")
        page.close()
    assert json.loads(result)["length"] == len("typed into the page")


def test_a_dead_engine_is_said_plainly_and_comes_back_with_its_data(stack: Stack):
    job_id = stack.submit("before")
    stack.run("status", job_id, "--follow")
    engine = family(stack.state)[0]
    engine.terminate()
    engine.wait(60)
    for command in (["info"], ["logs"]):
        assert "asyncjobs up --local" in stack.run(*command, check=5).stderr
    assert "asyncjobs up --local" in stack.run("status", job_id, check=1).stderr
    stack.run("up", "--local")
    assert stack.json("status", job_id)["status"] == "SUCCEEDED"
