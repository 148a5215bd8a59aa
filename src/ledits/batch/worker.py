"""A local worker process: `python -m ledits.batch.worker`. Tasks come in as lines of JSON, events go out as such.

The parent's end, however it comes, closes our input, and with it we end at once: nobody works on unseen.
"""

import hashlib
import json
import os
import queue
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from threading import Thread
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from ledits.editor import Editor

OpenEditor = Callable[[str, str, str], "Editor"]  # (model, as `Loading.to_text` says it, device, dtype)


def open_editor(model: str, device: str, dtype: str) -> "Editor":
    """The editor of a worker, loaded without its libraries' talk."""
    import diffusers
    import transformers

    from ledits.asked.loading import Loading
    from ledits.editor import Editor

    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return Editor.of(Loading.of(model, device, dtype))


def introduction(editor: "Editor", dtype: str) -> dict[str, Any]:
    """What the planner needs to know of a worker's model, and what it takes up."""
    import psutil
    import torch

    from ledits.backbones.state import additions

    backbone = editor.backbone
    added = additions(backbone)
    own = (
        backbone.fingerprint
        if not added
        else hashlib.sha256(" ".join([backbone.fingerprint, *added]).encode()).hexdigest()[:32]
    )
    return {
        "model": {
            "name": backbone.name, "fingerprint": own, "defaults": asdict(backbone.defaults), "area": backbone.area,
            "dtype": dtype,
        },
        "dtype": str(backbone.dtype).removeprefix("torch."), "device": backbone.device.type,
        "gpus": torch.cuda.device_count(), "memory": psutil.Process().memory_info().rss,
    }  # fmt: skip


def peak_memory() -> int:
    """Bytes that this process has held at most."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().rss
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(open_model: OpenEditor = open_editor) -> None:
    """Serve tasks from standard input until it closes."""
    # Ctrl-C is the parent's to hear: it lets the jobs in hand be finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints goes with the errors; the pipe is for events alone.
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    config: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    stopped = list[bool]()
    Thread(target=_listen, args=(lines, stopped), daemon=True).start()
    try:
        _serve(config, lines, events, lambda: bool(stopped), open_model)
    except BrokenPipeError:
        os._exit(1)


def _listen(lines: "queue.SimpleQueue[dict[str, Any]]", stopped: list[bool]) -> None:
    for line in sys.stdin.buffer:
        message: dict[str, Any] = json.loads(line)
        if "stop" in message:
            stopped.append(True)
        lines.put(message)
    os._exit(0)


def _serve(
    config: dict[str, Any], lines: "queue.SimpleQueue[dict[str, Any]]", events: BinaryIO, stopping: Callable[[], bool],
    open_model: OpenEditor,
) -> None:  # fmt: skip
    import torch

    from ledits.batch.jobs import Job
    from ledits.batch.places import place
    from ledits.batch.work import Worker, sentence

    def say(**event: Any) -> None:
        events.write(json.dumps(event).encode() + b"\n")
        events.flush()

    torch.set_num_threads(config["threads"])
    try:
        editor = open_model(config["model"], config["device"], config["dtype"])
    except Exception as error:
        say(kind="unusable", error=sentence(error))
        return
    worker = Worker(editor, place(config["place"]), config["name"], anyway=config["anyway"])
    say(kind="ready", **introduction(editor, config["dtype"]))
    while True:
        message = lines.get()
        if "threads" in message:
            torch.set_num_threads(message["threads"])
        if "jobs" in message:
            jobs = [Job.from_json(value) for value in message["jobs"]]
            for event in worker.work(jobs, message["previews"], stopping):
                say(**asdict(event), memory=peak_memory())


if __name__ == "__main__":
    main()
