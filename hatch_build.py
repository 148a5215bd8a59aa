"""What pyproject.toml can't hold: the page on PyPI. A link of README.md leads nowhere there, so it is led to where the
files can be read: the address in REPOSITORY_URL, at the tag of this version. Without an address only its text stays.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:)([^)\s]+)\)")


class CustomMetadataHook(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        version = re.search(r'^__version__ = "(.*)"$', (Path(self.root) / "src/ledits/__init__.py").read_text(), re.M)
        assert version is not None
        repository = os.environ.get("REPOSITORY_URL", "").rstrip("/")
        metadata["readme"] = {"content-type": "text/markdown", "text": page(text, repository, f"v{version[1]}")}
        metadata["urls"] = {"Paper": "https://arxiv.org/abs/2311.16711"}
        if repository:
            metadata["urls"] |= {
                "Source": repository,
                "Issues": f"{repository}/issues",
                "Changelog": f"{repository}/blob/v{version[1]}/CHANGELOG.md",
            }


def page(text: str, repository: str, tag: str) -> str:
    """README.md as it reads from elsewhere."""

    def led(match: re.Match[str]) -> str:
        picture, said, to = match.groups()
        if not repository:
            return "" if picture else said
        to = f"README.md{to}" if to.startswith("#") else to
        return f"{picture}[{said}]({repository}/{'raw' if picture else 'blob'}/{tag}/{to})"

    return _LINK.sub(led, text)
