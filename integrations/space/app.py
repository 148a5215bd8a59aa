"""The studio as a hub Space: one public page, with limits for strangers."""

import os
import tempfile
from pathlib import Path

from ledits import Editor
from ledits.server.run import serve
from ledits.server.settings import MIB, Limits, Settings
from ledits.studio import page as studio

LIMITS = Limits(
    upload_bytes=20 * MIB, pixels=16_000_000, steps=60, edits=8, cells=15, jobs=8, requests=64, job_seconds=120.0,
    store_bytes=512 * MIB, memory_bytes=128 * MIB,
)  # fmt: skip


def settings(folder: Path) -> Settings:
    """The hub says by which name it calls the Space; without a hub it answers this machine alone."""
    name, port = os.environ.get("SPACE_HOST", ""), int(os.environ.get("PORT", "7860"))
    if not name:
        return Settings(folder=folder, port=port, limits=LIMITS)
    return Settings(
        folder=folder, host="0.0.0.0", port=port, hosts=(name,), limits=LIMITS, demo=True,
        frames=("https://huggingface.co",),
    )  # fmt: skip


def main() -> None:
    model = os.environ.get("LEDITS_MODEL", "scenes")
    editors = {model: Editor(model)}
    with tempfile.TemporaryDirectory() as folder:
        serve(
            settings(Path(folder)), editors, page=studio.page(editors),
            started=lambda at: print(f"the studio is at {at}", flush=True),
        )  # fmt: skip


if __name__ == "__main__":
    main()
