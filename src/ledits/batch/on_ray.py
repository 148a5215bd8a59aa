"""Workers as Ray core actors: as many as the cluster has room for, growing and shrinking with it.

Ray restarts nothing and retries nothing here (0 restarts, 0 retries): `dispatch` does, for local processes and actors
alike. With Ray Data a row that always kills its worker hangs or fails the whole job; here it costs that row alone.
"""

import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from ledits.batch.dispatch import Heard
from ledits.batch.jobs import Job, Model
from ledits.batch.worker import OpenEditor, introduction, open_editor

_LOOK = 2.0  # seconds between looks at the cluster's size
_START = 600.0  # seconds that a model may take to load


class Actor:
    """A worker in an actor: `work.Worker`, whose events are streamed."""

    def __init__(
        self, model: str, device: str, dtype: str, place: str, threads: int, open_model: OpenEditor, anyway: bool
    ) -> None:  # fmt: skip
        import ray
        import torch

        from ledits.batch.places import place as place_of
        from ledits.batch.work import Worker

        torch.set_num_threads(threads)
        self._editor, self._dtype, self._stopped = open_model(model, device, dtype), dtype, False
        actor = str(ray.get_runtime_context().get_actor_id())
        name = f"{platform.node()}-{actor[:8]}"
        self._worker = Worker(self._editor, place_of(place), name, anyway=anyway)

    def introduce(self) -> dict[str, Any]:
        return {**introduction(self._editor, self._dtype), "pid": os.getpid()}

    def work(self, task: str, previews: bool) -> Iterator[dict[str, Any]]:
        jobs = [Job.from_json(value) for value in json.loads(task)]
        for event in self._worker.work(jobs, previews, lambda: self._stopped):
            yield asdict(event)

    def stop(self) -> None:
        self._stopped = True


@dataclass
class _Live:
    actor: Any
    hello: Any  # the reference of its introduction, None once it has come
    began: float
    events: Any = None  # the stream of its task


@dataclass
class OnRay:
    """Actors on a cluster, or on this machine where no address is given."""

    address: str
    model: str
    device: str
    dtype: str
    place: str
    workers: int | None = None  # None: as many as the cluster has room for
    threads: int = 1
    open_model: OpenEditor = open_editor
    anyway: bool = False
    introduction: dict[str, Any] | None = None  # of the first worker
    _live: dict[str, _Live] = field(default_factory=dict[str, _Live])
    _count: int = 0
    _looked: float = 0.0
    _finishing: bool = False

    def meet(self) -> Model:
        """Join the cluster, start the first actor and wait for its model; ValueError where either can't be done."""
        try:
            import ray
        except ImportError:
            raise ValueError("--ray needs Ray: pip install 'ledits[ray]'") from None
        if not ray.is_initialized():
            try:
                ray.init(address=self.address or None, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:
                raise ValueError(f"Ray at {self.address!r} can't be joined: {_first_line(error)}") from None
        self._start()
        live = next(iter(self._live.values()))
        try:
            said: Any = ray.get(live.hello, timeout=_START)
        except Exception as error:
            raise ValueError(f"no worker comes up: {_first_line(error)}") from None
        self.introduction = said
        live.hello = ray.put(self.introduction)
        return Model.from_json(said["model"])

    def send(self, worker: str, jobs: Sequence[Job], previews: bool) -> None:
        live = self._live[worker]
        live.events = live.actor.work.remote(json.dumps([job.to_json() for job in jobs]), previews)

    def hear(self, timeout: float) -> list[Heard]:
        import ray

        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            self._fit()
        asked = {}
        for name, live in self._live.items():
            waited = live.hello if live.hello is not None else live.events
            if waited is not None:
                asked[waited] = name
        if not asked:
            time.sleep(timeout)
            return []
        ready, _ = ray.wait(list(asked), num_returns=1, timeout=timeout, fetch_local=True)
        if ready:
            # Whatever else is there already.
            ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=0, fetch_local=True)
        return [heard for reference in ready for heard in self._take(asked[reference])]

    def finish(self) -> None:
        self._finishing = True
        for live in self._live.values():
            live.actor.stop.remote()

    def close(self) -> None:
        import ray

        for live in self._live.values():
            ray.kill(live.actor)
        self._live.clear()

    @property
    def running(self) -> int:
        return len(self._live)

    def pids(self) -> dict[str, int]:
        return {}

    def _take(self, name: str) -> list[Heard]:
        import ray

        live = self._live[name]
        try:
            if live.hello is not None:
                said: Any = ray.get(live.hello)
                live.hello = None
                assert self.introduction is not None
                if said["model"]["fingerprint"] != self.introduction["model"]["fingerprint"]:
                    raise ValueError(f"another version of model {self.model!r} lies on one of the cluster's machines")
                return [Heard(name, "ready")]
            event: Any = ray.get(next(live.events))
        except Exception as error:
            # Also where the actor may still live (unavailable): it is killed, and what it published is found.
            self._drop(name)
            return [Heard(name, "died", error=_first_line(error))]
        if event["kind"] == "end":
            live.events = None
        return [Heard(name, event["kind"], tuple(event["ids"]), event["row"], event["error"])]

    def _fit(self) -> None:
        """As many actors as the cluster has room for; those that wait for room that is gone are dropped."""
        import ray

        if self._finishing:
            return
        resources = ray.cluster_resources()
        each, room = self._needs(), 1
        for key, amount in (("GPU", each["num_gpus"]), ("CPU", each["num_cpus"])):
            if amount:
                room = int(resources.get(key, 0) // amount)
                break
        wanted = max(1, self.workers if self.workers is not None else room)
        while len(self._live) < wanted:
            self._start()
        waiting = [name for name, live in self._live.items() if live.hello is not None]
        for name in waiting[: max(0, len(self._live) - wanted)]:
            self._drop(name)

    def _needs(self) -> dict[str, float]:
        gpu = bool(self.introduction and self.introduction["device"] == "cuda") or self.device.startswith("cuda")
        return {"num_gpus": 1.0 if gpu else 0.0, "num_cpus": 1.0 if gpu else float(self.threads)}

    def _start(self) -> None:
        import ray

        remote: Any = ray.remote(Actor)
        # Two calls at once: `stop` is heard while `work` runs.
        actor = remote.options(
            max_restarts=0, max_task_retries=0, max_concurrency=2,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(self.threads), "OMP_WAIT_POLICY": "passive"}},
            **self._needs(),
        ).remote(self.model, self.device, self.dtype, self.place, self.threads, self.open_model,
                 self.anyway)  # fmt: skip
        self._live[f"ray-{self._count}"] = _Live(actor, actor.introduce.remote(), time.monotonic())
        self._count += 1

    def _drop(self, name: str) -> None:
        import ray

        live = self._live.pop(name)
        with suppress(Exception):  # it may be gone already
            ray.kill(live.actor)


def _first_line(error: Exception) -> str:
    """Ray's errors carry tracebacks: the last line of a worker's error, else the first."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return _first_line(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else ""
    return f"{type(error).__name__}: {said}"[:300]
