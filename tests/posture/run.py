"""What prowler says of a stack: `python tests/posture/run.py PROWLER`.

Brings a stack up in moto's server, lets prowler look at it, and compares what it finds with `allowed.toml`. Ends with
1 on a finding that is not allowed, or an allowance that nothing needs any more.
"""

from __future__ import annotations

import csv
import logging
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "aws"))

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402
from moto_mends import mend  # noqa: E402

from asyncjobs.aws import Clients, Waiter  # noqa: E402
from asyncjobs.config import Config  # noqa: E402
from asyncjobs.names import Names  # noqa: E402
from asyncjobs.progress import NullProgress  # noqa: E402
from asyncjobs.provision.context import Context  # noqa: E402
from asyncjobs.provision.engine import Engine  # noqa: E402
from asyncjobs.provision.image import GivenImage  # noqa: E402
from asyncjobs.provision.plan import plan_up, read_all  # noqa: E402
from asyncjobs.provision.stack import stack_resources  # noqa: E402

NAMES = Names("posture", "123456789012", "eu-west-1")
SERVICES = ("sqs", "dynamodb", "ecr", "ecs", "s3", "iam", "apigateway", "cloudwatch")
SEVERE = ("critical", "high")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def bring_up(endpoint: str) -> list[str]:
    """A stack as `up` makes it; the ids that it goes by where they are not made of its name."""
    session = boto3.session.Session("testing", "testing", region_name=NAMES.region)
    context = Context(
        Clients(session, endpoint_url=endpoint),
        NAMES,
        Waiter(NullProgress(), sleep=lambda _: None),
        Config.model_validate({"worker": {"handler": "handler:handle"}}),
        lambda api, stage: f"{endpoint}/{api}/{stage}",
        wait=False,
    )
    image = GivenImage(f"{NAMES.account}.dkr.ecr.{NAMES.region}.amazonaws.com/{NAMES.repository}:1", "x86_64")
    resources = stack_resources(context, image)
    outputs = Engine(NullProgress()).up(plan_up(resources, read_all(resources))).outputs
    return [NAMES.base, NAMES.log_group, outputs["api"]["id"]]


def findings(prowler: str, endpoint: str, ids: list[str]) -> list[dict[str, str]]:
    """What prowler finds wrong with the stack."""
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": NAMES.region,
    }
    with tempfile.TemporaryDirectory() as folder:
        options = ["--no-banner", "--ignore-exit-code-3", "--output-formats", "csv", "--output-directory", folder]
        command = [prowler, "aws", "--service", *SERVICES, "--region", NAMES.region, *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        reports = list(Path(folder).glob("*.csv"))
        if done.returncode or not reports:
            sys.exit(f"prowler ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        with reports[0].open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter=";"))
    ours = [row for row in rows if any(id in row["RESOURCE_UID"] + row["RESOURCE_NAME"] for id in ids)]
    passed = sum(row["STATUS"] == "PASS" for row in ours)
    say(f"{len(ours)} findings on the stack's resources, {passed} of them passed.")
    return [row for row in ours if row["STATUS"] == "FAIL"]


def main(prowler: str) -> int:
    """Compare with the allowed findings; the number of differences as exit code 0 or 1."""
    allowed = tomllib.loads((HERE / "allowed.toml").read_text(encoding="utf-8"))
    mend(setattr)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        found = findings(prowler, endpoint, bring_up(endpoint))
    finally:
        server.stop()
    for row in found:
        known = row["CHECK_ID"] in allowed
        say(f"{'allowed' if known else 'FAIL':<8} {row['SEVERITY']:<9} {row['CHECK_ID']}  {row['RESOURCE_NAME']}")
    checks = {row["CHECK_ID"] for row in found}
    severe = sorted({row["CHECK_ID"] for row in found if row["SEVERITY"].lower() in SEVERE})
    new, unused = sorted(checks - allowed.keys()), sorted(allowed.keys() - checks)
    say(f"High or critical: {', '.join(severe) or 'none'}.")
    if new:
        say(f"Not allowed: {', '.join(new)}.")
    if unused:
        say(f"Allowed, but nothing needs it any more: {', '.join(unused)}.")
    return 1 if new or unused else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
