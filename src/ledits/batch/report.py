"""index.html: the results side by side (before, after, where the edits acted), failures first."""

import html
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ledits.batch.jobs import PREVIEWS

_SHOWN = 500  # of failures, and of results
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .3rem .8rem .3rem 0; }
td { border-top: 1px solid #ddd; vertical-align: top; overflow-wrap: anywhere; }
.results { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; } img { max-width: 100%; image-rendering: auto; } figcaption { font-size: 13px; color: #555; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } td { border-color: #444; }
  figcaption { color: #aaa; } a { color: #8ab4f8; } }
"""


@dataclass
class Sheet:
    """Counts of all rows, and the rows that the page shows; `previews` are the ids that have one."""

    previews: set[str]
    counts: Counter[str] = field(default_factory=Counter[str])
    failed: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    shown: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    def see(self, row: dict[str, Any]) -> None:
        self.counts[row["status"]] += 1
        if row["status"] == "failed" and len(self.failed) < _SHOWN:
            self.failed.append(row)
        if row["status"] == "done" and row["id"] in self.previews and len(self.shown) < _SHOWN:
            self.shown.setdefault(row["id"], row)

    def page(self, title: str, tables: Sequence[str]) -> str:
        """The page, with links to the tables that lie beside it."""
        counts = ", ".join(f"{count} {status}" for status, count in sorted(self.counts.items()))
        parts = [
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>",
            f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style>",
            f"<h1>{_broken(title)}</h1><p>{counts}. The whole table: "
            + " ".join(f"<a href='{_linked(name)}'>{html.escape(name)}</a>" for name in tables),
        ]
        if self.failed:
            parts.append(f"<h2>Failed{_of(len(self.failed), self.counts['failed'])}</h2><table>")
            parts.append("<tr><th>row<th>picture<th>edits<th>error")
            for row in self.failed:
                cells = (row["row"], row["picture"], "; ".join(row["edits"]), row["error"])
                parts.append("<tr>" + "".join(f"<td>{_broken(str(cell or ''))}" for cell in cells))
            parts.append("</table>")
        if self.shown:
            heading = _of(len(self.shown), self.counts["done"])
            parts.append(f"<h2>Results{heading}: before, after, where the edits acted</h2><div class=results>")
            for identity, row in self.shown.items():
                edits = html.escape("; ".join(row["edits"]))
                parts.append(
                    f"<figure><a href='{_linked(row['output'])}'><img loading=lazy src='{PREVIEWS}/{identity}.jpg' "
                    f"alt='before, after and mask of {edits}'></a><figcaption>{_broken(str(row['picture']))}<br>"
                    f"{edits}</figcaption></figure>"
                )
            parts.append("</div>")
        return "\n".join(parts) + "\n"


def _broken(text: str) -> str:
    """A text for the page; long names may be broken at their separators, and nowhere else first."""
    return re.sub(r"([/\\_.-])(?=[^\s/\\_.-])", r"\1<wbr>", html.escape(text))


def _linked(name: object) -> str:
    return quote(str(name), errors="surrogatepass")


def _of(shown: int, count: int) -> str:
    return f" ({count})" if shown == count else f" ({shown} of {count})"
