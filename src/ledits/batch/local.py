"""Workers as processes of this machine, joined by pipes: one a GPU, or as many as cores and memory bear."""

import json
import os
import platform
import queue
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import IO, Any, cast

import psutil

from ledits.batch.dispatch import Heard
from ledits.batch.jobs import Job, Model

COMMAND = (sys.executable, "-m", "ledits.batch.worker")
_STARTS = 10  # of the first worker, each of which was killed
_SPARE = 0.1  # of the machine's memory, for everything else


@dataclass
class _Process:
    name: str
    process: "subprocess.Popen[bytes]"
    errors: IO[bytes]
    error: str = ""  # why it could not begin, in its own words


@dataclass
class Local:
    """Local processes. One starts alone, and its first task measures how many more the memory bears."""

    model: str
    device: str
    dtype: str
    place: str  # an absolute path or a URL
    workers: int | None = None  # None: as many as fit
    threads: int | None = None  # of each; None: the cores shared out
    command: Sequence[str] = COMMAND
    anyway: bool = False  # also where the model knows neither such a picture nor such a word
    introduction: dict[str, Any] | None = None  # of the first worker
    _processes: dict[str, _Process] = field(default_factory=dict[str, _Process])
    _heard: "queue.SimpleQueue[tuple[str, dict[str, Any] | None]]" = field(default_factory=queue.SimpleQueue)
    _wanted: int = 1
    _count: int = 0
    _finishing: bool = False

    def meet(self, timeout: float = 600.0) -> Model:
        """Start the first worker and wait for its model; ValueError where it can't be loaded."""
        self._start()
        for _ in range(_STARTS):
            name, event = self._heard.get(timeout=timeout)
            if event is None:
                error = self._gone(self._processes.pop(name))
                self._start()
            elif event["kind"] == "unusable":
                raise ValueError(event["error"])
            else:
                self.introduction = event
                self._heard.put((name, event))
                if self.workers is not None:
                    self._grow(self.workers)
                return Model.from_json(event["model"])
        raise ValueError(f"no worker comes up: {error}")  # pyright: ignore[reportPossiblyUnboundVariable]

    def send(self, worker: str, jobs: Sequence[Job], previews: bool) -> None:
        self._tell(worker, {"jobs": [job.to_json() for job in jobs], "previews": previews})

    def hear(self, timeout: float) -> list[Heard]:
        heard = list[Heard]()
        try:
            name, event = self._heard.get(timeout=timeout)
            while True:
                heard += self._translate(name, event)
                name, event = self._heard.get_nowait()
        except queue.Empty:
            return heard

    def finish(self) -> None:
        self._finishing = True
        for name in list(self._processes):
            self._tell(name, {"stop": True})

    def close(self) -> None:
        for each in self._processes.values():
            each.process.kill()
        for each in self._processes.values():
            each.process.wait()
            for stream in (each.process.stdin, each.process.stdout, each.errors):
                if stream:
                    with suppress(BrokenPipeError):
                        stream.close()
        self._processes.clear()

    def pids(self) -> dict[str, int]:
        return {name: each.process.pid for name, each in self._processes.items()}

    @property
    def running(self) -> int:
        return len(self._processes)

    def _translate(self, name: str, event: dict[str, Any] | None) -> list[Heard]:
        if name not in self._processes:
            return []
        if event is None:
            error = self._gone(self._processes.pop(name))
            if not self._finishing:
                self._start()
            return [Heard(name, "died", error=error)]
        if event["kind"] == "unusable":
            self._processes[name].error = event["error"]
            return []
        if event["kind"] == "end" and self._wanted == 1 and self.workers is None:
            self._grow(self._borne(int(event["memory"])))
        return [Heard(name, event["kind"], tuple(event.get("ids") or ()), event.get("row"), event.get("error") or "")]

    def _borne(self, peak: int) -> int:
        """How many workers the machine bears, each as large as the first was at most."""
        assert self.introduction is not None
        if self.introduction["device"] == "cuda":
            return max(1, int(self.introduction["gpus"]))
        memory = psutil.virtual_memory()
        more = int((memory.available - _SPARE * memory.total) // peak)
        return max(1, min(cores(), 1 + more))

    def _grow(self, wanted: int) -> None:
        if self._finishing:
            return
        self._wanted = max(wanted, 1)
        for name in list(self._processes):
            self._tell(name, {"threads": self._threads()})
        while len(self._processes) < self._wanted:
            self._start()

    def _threads(self) -> int:
        return self.threads or max(1, cores() // (self.workers or max(self._wanted, 1)))

    def _start(self) -> None:
        name, environment = f"{platform.node()}-{os.getpid()}-{self._count}", dict(os.environ)
        if self.introduction and self.introduction["device"] == "cuda":
            seen = environment.get("CUDA_VISIBLE_DEVICES", "")
            gpus = seen.split(",") if seen else [str(k) for k in range(int(self.introduction["gpus"]))]
            environment["CUDA_VISIBLE_DEVICES"] = gpus[self._count % len(gpus)]
        # Threads that spin while they wait would take cores from the other workers.
        environment.setdefault("OMP_WAIT_POLICY", "passive")
        environment["OMP_NUM_THREADS"] = str(self._threads() if self.workers or self._wanted > 1 else 1)
        errors = cast("IO[bytes]", tempfile.TemporaryFile())  # noqa: SIM115
        # A session of its own: Ctrl-C on the terminal is not for workers.
        process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
            start_new_session=True,
        )  # fmt: skip
        self._count += 1
        self._processes[name] = _Process(name, process, errors)
        Thread(target=self._read, args=(name, process), daemon=True).start()
        self._tell(name, {
            "model": self.model, "device": self.device, "dtype": self.dtype, "place": self.place, "name": name,
            "threads": int(environment["OMP_NUM_THREADS"]), "anyway": self.anyway,
        })  # fmt: skip

    def _tell(self, name: str, message: dict[str, Any]) -> None:
        each = self._processes.get(name)
        if each is None or each.process.stdin is None:
            return
        try:
            each.process.stdin.write(json.dumps(message).encode() + b"\n")
            each.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it died: its reader says so

    def _read(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                # A killed worker's last line may be cut off.
                if line.endswith(b"\n"):
                    self._heard.put((name, json.loads(line)))
        except ValueError:
            pass  # closed by `close`
        self._heard.put((name, None))

    def _gone(self, each: _Process) -> str:
        """Why a worker is gone, from its exit code and the last line that it wrote."""
        code = each.process.wait()
        each.errors.seek(0)
        last = each.errors.read().decode(errors="replace").strip().splitlines()[-1:]
        for stream in (each.process.stdin, each.process.stdout, each.errors):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()
        if each.error:
            return each.error
        if code >= 0:
            return f"exit code {code}" + (f" ({last[0][:300]})" if last else "")
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"killed by {name}" + (", as the system does when memory runs out" if name == "SIGKILL" else "")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
