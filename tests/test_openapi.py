"""The interface as clients know it is the one that is stored: `python tests/test_openapi.py` stores the present one."""

import json
from pathlib import Path
from typing import Any

from ledits.editor import Editor
from ledits.server.app import create
from ledits.server.settings import Settings
from serving import Instant

STORED = Path(__file__).with_name("openapi.json")


def interface(folder: Path) -> dict[str, Any]:
    """The OpenAPI document of a server, without the version of the project."""
    app, service = create(Settings(folder=folder), {"instant": Editor(Instant())})
    try:
        from starlette.testclient import TestClient

        with TestClient(app, base_url="http://127.0.0.1") as http:
            document = http.get("/openapi.json").json()
    finally:
        service.close()
    del document["info"]["version"]
    return document


def test_a_change_of_the_interface_is_seen(tmp_path: Path) -> None:
    present, stored = interface(tmp_path), json.loads(STORED.read_text())
    parts = {
        name: (present[name], stored[name]) for name in ("info", "paths", "components") if present[name] != stored[name]
    }
    changed = [f"{name}: {key}" for name, (a, b) in parts.items() for key in {**a, **b} if a.get(key) != b.get(key)]
    assert present == stored, (
        f"the interface of `ledits serve` has changed ({'; '.join(changed)}). Where clients can bear it, say so in "
        "CHANGELOG.md and store it: PYTHONPATH=src python tests/test_openapi.py"
    )


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        STORED.write_text(json.dumps(interface(Path(folder)), indent=1, sort_keys=True) + "\n")
