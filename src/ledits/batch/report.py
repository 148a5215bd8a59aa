"""index.html: the results side by side (before, after, where the edits acted), failures first."""

import html
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

_SHOWN = 500  # of failures, and of results
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
  background: light-dark(#fff, #181818); color: light-dark(#222, #ddd); }
h1 { overflow-wrap: anywhere; } a { color: light-dark(#1a56db, #8ab4f8); }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .3rem .8rem .3rem 0; }
td { border-top: 1px solid light-dark(#ddd, #444); vertical-align: top; overflow-wrap: anywhere; }
td:nth-child(2), td:nth-child(3) { min-width: min(12rem, 14vw); }
.results { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1.2rem; }
figure { margin: 0; } img { max-width: 100%; } .whole { white-space: nowrap; }
figcaption { font-size: 13px; color: light-dark(#555, #aaa); overflow-wrap: anywhere; }
"""


@dataclass
class Sheet:
    """Counts of all rows, and the rows that the page shows; `previews` has the file of each id that has one."""

    previews: dict[str, str]
    counts: Counter[str] = field(default_factory=Counter[str])
    failed: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    # Rows by id: a picture that is there under two names is edited once, and named twice.
    shown: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])

    def see(self, row: dict[str, Any]) -> None:
        self.counts[row["status"]] += 1
        if row["status"] == "failed" and len(self.failed) < _SHOWN:
            self.failed.append(row)
        if row["status"] == "done" and row["id"] in self.previews:
            if row["id"] in self.shown:
                self.shown[row["id"]].append(row)
            elif len(self.shown) < _SHOWN:
                self.shown[row["id"]] = [row]

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
            heading = _of(sum(map(len, self.shown.values())), self.counts["done"])
            parts.append(f"<h2>Results{heading}: before, after, where the edits acted</h2><div class=results>")
            for identity, rows in self.shown.items():
                edits, names = "; ".join(rows[0]["edits"]), [_broken(str(row["picture"])) for row in rows]
                shown, output = _linked(self.previews[identity]), _linked(rows[0]["output"])
                parts.append(
                    f"<figure><a href='{output}'><img loading=lazy src='{shown}' "
                    f"alt='before, after and mask of {html.escape(edits)}'></a>"
                    f"<figcaption>{'<br>'.join(names)}<br>{_broken(edits)}</figcaption></figure>"
                )
            parts.append("</div>")
        return "\n".join(parts) + "\n"


def _broken(text: str) -> str:
    """A text for the page; long names break at their separators first, and an arrow stays whole."""
    parts = re.split("(->)", text)
    parts[::2] = [re.sub(r"([/\\_.-])(?=[^\s/\\_.-])", r"\1<wbr>", html.escape(part)) for part in parts[::2]]
    parts[1::2] = ["<span class=whole>-&gt;</span>" for _ in parts[1::2]]
    return "".join(parts)


def _linked(name: object) -> str:
    return quote(str(name), errors="surrogatepass")


def _of(shown: int, count: int) -> str:
    return f" ({count})" if shown == count else f" ({shown} of {count})"
