"""Hosts of node packs, as processes of their own: started, asked over HTTP, ended."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS = float(os.environ.get("HOST_SECONDS", "300"))  # that a host, or one graph in it, may take


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """That of a host: offline, with this checkout's ledits."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **more}


@contextmanager
def running(
    command: Sequence[str | Path], folder: Path, log: Path, ready: str, more: Mapping[str, str]
) -> Generator[None]:
    """The host until the block ends; `ready` is an address that it answers once it is up."""
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, env=environment(more))
    try:
        end = time.monotonic() + SECONDS
        while True:
            try:
                with urllib.request.urlopen(ready, timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < end, log.read_text()[-3000:]
                time.sleep(0.5)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def called(command: Sequence[str | Path], given: str, folder: Path, more: Mapping[str, str]) -> str:
    """What a program of the host's own Python prints."""
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=SECONDS, cwd=folder, env=environment(more)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
