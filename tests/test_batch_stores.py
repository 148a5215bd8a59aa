"""Batches on an object store: S3 as moto plays it on the loopback."""

import threading
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from conftest import picture

pytest.importorskip("obstore")
moto_server = pytest.importorskip("moto.server")

from ledits.batch import log, places  # noqa: E402
from ledits.batch.jobs import Ask, finished_id  # noqa: E402
from ledits.batch.local import Local  # noqa: E402
from ledits.batch.manifest import Source  # noqa: E402
from ledits.batch.places import Bucket  # noqa: E402
from ledits.batch.run import Options, run  # noqa: E402

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def bucket() -> Generator[str]:
    """s3://pictures on a moto server, named in the environment as a user would."""
    import boto3

    server: Any = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        settings = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1",
        }  # fmt: skip
        for name, value in settings.items():
            patch.setenv(name, value)
        places.store.cache_clear()
        boto3.client("s3", endpoint_url=settings["AWS_ENDPOINT_URL"]).create_bucket(Bucket="pictures")
        yield "s3://pictures"
        places.store.cache_clear()
    server.stop()


def test_of_two_writers_to_a_bucket_one_wins(bucket: str) -> None:
    place = Bucket(f"{bucket}/writers")
    won, start = list[bool](), threading.Barrier(8)

    def write(k: int) -> None:
        start.wait()
        won.append(place.create("one.png", bytes([k]) * 100_000))

    threads = [threading.Thread(target=write, args=(k,)) for k in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert won.count(True) == 1
    content = place.get("one.png")
    assert content is not None
    assert len(content) == 100_000
    assert len(set(content)) == 1
    assert list(place.names()) == ["one.png"]
    assert place.exists("one.png")
    assert not place.exists("two.png")


def test_a_log_in_a_bucket_keeps_every_row(bucket: str) -> None:
    place, ids = Bucket(f"{bucket}/logs"), [f"{k:016x}" for k in range(300)]
    writer = log.Log(place, "done")
    for identity in ids:
        writer.append({"id": identity, "time": 1.0})
    assert [row["id"] for row in log.rows(place, "done")] == ids
    assert len(list(place.names(log.FOLDER))) == 2


def test_two_runs_at_once_on_one_bucket_do_nothing_twice_that_was_finished(bucket: str, tmp_path: Path) -> None:
    inputs, out = Bucket(f"{bucket}/in"), f"{bucket}/out"
    for k in range(8):
        path = tmp_path / f"{k}.png"
        picture(k, 16, 16).save(path)
        inputs.create(f"photos/{k}.png", path.read_bytes())
    source = Source(
        pictures=(f"{bucket}/in/photos/",), edits=("+hat",), ask=Ask(steps=1, mask="none"), listed=places.listed
    )
    options, summaries = Options(source=source, output=out, workers=1, anyway=True), list[Any]()
    runs = [threading.Thread(target=lambda: summaries.append(run(options))) for _ in range(2)]
    [thread.start() for thread in runs]
    [thread.join() for thread in runs]
    assert [(s.done, s.failed, s.to_do) for s in summaries] == [(8, 0, 0)] * 2
    place = Bucket(out)
    names = [name for name in place.names() if finished_id(name)]
    assert len(names) == 8
    # Two that began the same job at the same time made the same picture, and one of them wrote it.
    rows = list(log.rows(place, "done"))
    assert {row["output"] for row in rows} == set(names)
    assert Counter(row["id"] for row in rows).most_common(1)[0][1] <= 2
    third = run(options)
    assert (third.edited, third.evaluations) == (0, 0)
    assert list(log.rows(place, "done")) == rows
    table = place.get("results.jsonl")
    assert table is not None
    assert table.count(b"\n") == 8


def test_a_bucket_that_is_not_there_gets_one_sentence(bucket: str) -> None:
    pool = Local("scenes", "cpu", "auto", "s3://nowhere/out", 1, 1)
    source = Source(pictures=("x.png",), edits=("+hat",))
    with pytest.raises(ValueError, match="s3://nowhere/out") as error:
        run(Options(source=source, output="s3://nowhere/out"), pool=pool)
    assert len(str(error.value).splitlines()) == 1
