"""The emulated AWS services with the REST API hooks, as a process: `emulator.py PORT STATE_DIR`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path


def main(port: str, state_dir: str) -> None:
    os.environ |= {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": port,
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "PERSIST_STATE": "0",
        "LOG_LEVEL": "WARNING",
        "SERVICES": "apigateway,dynamodb,iam,sqs,sts",
    }
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack.app import app

    from asyncjobs.local.dataplane import RestApiHooks

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    asyncio.run(serve(RestApiHooks(app, Path(state_dir)), config))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
