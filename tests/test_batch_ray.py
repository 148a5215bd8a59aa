"""Batches on Ray: one real cluster for all of these tests, whose nodes come and go."""

import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from conftest import picture

ray: Any = pytest.importorskip("ray")

from ledits.batch import log  # noqa: E402
from ledits.batch.jobs import Ask  # noqa: E402
from ledits.batch.local import Local  # noqa: E402
from ledits.batch.manifest import Source  # noqa: E402
from ledits.batch.on_ray import OnRay  # noqa: E402
from ledits.batch.places import Folder  # noqa: E402
from ledits.batch.run import Counts, Options, run  # noqa: E402

# Ray's own threads and sockets are its own business.
pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster() -> Generator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 << 20})
    yield made
    ray.shutdown()
    made.shutdown()


def test_with_a_node_killed_one_added_and_a_deadly_job_every_other_result_is_there(
    cluster: Any, tmp_path: Path
) -> None:
    names = [str(tmp_path / f"{k}.png") for k in range(12)]
    for k, name in enumerate(names):
        picture(k, 17 if k == 5 else 16, 16).save(name)
    source = Source(pictures=tuple(names), edits=("+hat",), ask=Ask(steps=1, mask="none"))

    def open_deadly(model: str, device: str, dtype: str) -> Any:
        import os
        import signal

        from ledits.batch.worker import open_editor

        editor = open_editor(model, device, dtype)
        invert = editor.invert

        def deadly(shown: Any, settings: Any, **options: Any) -> Any:
            time.sleep(0.3)
            if shown.rgb.shape[1] == 17:
                os.kill(os.getpid(), signal.SIGKILL)
            return invert(shown, settings, **options)

        editor.invert = deadly  # pyright: ignore[reportAttributeAccessIssue]
        return editor

    nodes, changed = [cluster.add_node(num_cpus=1, object_store_memory=80 << 20)], list[str]()

    def watch(counts: Counts) -> None:
        if counts.done >= 3 and not changed:
            cluster.remove_node(nodes[0], allow_graceful=False)
            changed.append("removed")
        if counts.done >= 5 and len(changed) == 1:
            cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
            changed.append("added")

    out = tmp_path / "out"
    pool = OnRay(cluster.address, "scenes", "cpu", "auto", str(out), open_model=open_deadly, anyway=True)
    summary = run(Options(source=source, output=str(out)), watch, pool)
    assert changed == ["removed", "added"]
    assert (summary.done, summary.failed, summary.to_do) == (11, 1, 0)
    (row,) = log.rows(Folder(out), "failed")
    assert row["picture"] == names[5]
    assert "died 2 times" in row["error"]
    assert Counter(row["id"] for row in log.rows(Folder(out), "done")).most_common(1)[0][1] <= 2


def test_ray_and_local_processes_make_the_same_files(cluster: Any, tmp_path: Path) -> None:
    names = [str(tmp_path / f"{k}.png") for k in range(3)]
    for k, name in enumerate(names):
        picture(k, 40, 24).save(name)
    source = Source(pictures=tuple(names), edits=("cat->dog",), ask=Ask(steps=2, source="a cat"))
    outs, pools = [tmp_path / "local", tmp_path / "ray"], list[Any]()
    pools.append(Local("scenes", "cpu", "auto", str(outs[0]), 1, 1, anyway=True))
    pools.append(OnRay(cluster.address, "scenes", "cpu", "auto", str(outs[1]), workers=1, anyway=True))
    for out, pool in zip(outs, pools, strict=True):
        assert run(Options(source=source, output=str(out)), pool=pool).done == 3
    files = [{name: (out / name).read_bytes() for name in Folder(out).names() if name.endswith(".png")} for out in outs]
    assert files[0] == files[1]
    assert len(files[0]) == 3
    # A second run on either finds everything done.
    pool = OnRay(cluster.address, "scenes", "cpu", "auto", str(outs[0]), workers=1, anyway=True)
    assert run(Options(source=source, output=str(outs[0])), pool=pool).edited == 0
