"""Which code the figures on the pages are of: python docs/measured.py [NAME ...] [--commit COMMIT].

docs/measured.json has an entry for each measurement: its page, the command, and digests of the code as it was then. On
the page, below the tables, a sentence says when that was and what has changed since. Without a name the sentences are
written anew. With names, those were measured just now, or at a commit: their digests are taken, and their sentences
follow. tests/test_figures.py fails where a sentence is not true.
"""

import argparse
import ast
import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Iterable
from datetime import date
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs/measured.json"

# What a figure can depend on, in words for who reads the page; `*` goes through folders.
CODE = {
    "the method": ["src/ledits/method/*.py"],
    # All but clauses.py, the English of sentences such as "make the cat a dog": what is measured types cat->dog.
    "the captions": ["src/ledits/language/[!c]*.py", "src/ledits/language/changes.py"],
    "the editor": ["src/ledits/editor.py", "src/ledits/asked/*.py", "src/ledits/picture/*.py"],
    "the networks": ["src/ledits/backbones/*.py"],
    "the CPU's layers": ["src/ledits/cpu/*.py", "src/ledits/cpu/*.c"],
    "the pipelines": ["src/ledits/pipelines/*.py"],
    "the bundled model": ["*models/scenes/*.safetensors"],
    "the bundled flow model": ["*models/scenes-flow/*.safetensors"],
    "batches": ["src/ledits/batch/*.py"],
    "the server": ["src/ledits/server/*.py"],
    "the benchmark": ["src/ledits_bench/*.py", "src/ledits/scenes/*.py"],
}

Read = Callable[[str], bytes]


def here() -> tuple[list[str], Read]:
    """The files of this checkout, and how one is read."""
    found = [path for top in ("src", "packages") for path in (ROOT / top).rglob("*") if path.is_file()]
    return [path.relative_to(ROOT).as_posix() for path in found], lambda name: (ROOT / name).read_bytes()


def there(commit: str) -> tuple[list[str], Read]:
    """Those of a commit."""

    def git(*words: str) -> bytes:
        return subprocess.run(["git", "-C", ROOT, *words], check=True, capture_output=True).stdout

    return git("ls-tree", "-r", "--name-only", commit).decode().splitlines(), lambda name: git(
        "show", f"{commit}:{name}"
    )


def without_words(code: str) -> str:
    """The code without docstrings, comments and blank lines: none of them changes a figure."""
    lines = [line.rstrip() for line in code.splitlines()]
    for node in ast.walk(ast.parse(code)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            assert first.end_lineno is not None
            lines[first.lineno - 1 : first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)
    return "\n".join(line for line in lines if line and not line.lstrip().startswith("#"))


def digest(what: str, files: Iterable[str], read: Read) -> str:
    """A digest of a part of the code. Its files may move, and their docstrings, comments and blank lines may change."""
    found: list[str] = []
    for name in files:
        if any(fnmatch(name, pattern) for pattern in CODE[what]):
            data = read(name)
            if name.endswith(".py"):
                data = without_words(data.decode()).encode()
            found.append(hashlib.sha256(data).hexdigest())
    return hashlib.sha256("".join(sorted(found)).encode()).hexdigest()[:12]


def digests(of: Iterable[str], files: list[str], read: Read) -> dict[str, str]:
    return {what: digest(what, files, read) for what in of}


def sentence(figure: dict[str, Any], now: dict[str, str]) -> str:
    """What a page has to say of a measurement, with today's digests of all code."""
    day = date.fromisoformat(figure["date"])
    said = f"Measured with the code of {day.day} {day:%B %Y} (`{figure['commit']}`)."
    if changed := [what for what, then in figure["digests"].items() if now[what] != then]:
        said += f" Changed since then, and not measured again: {', '.join(changed)}."
    return f"<!-- measured: {figure['name']} -->\n*{said}*"


def place(name: str) -> re.Pattern[str]:
    """Where the sentence stands on a page."""
    return re.compile(rf"<!-- measured: {re.escape(name)} -->\n\*[^\n]*\*")


def figures() -> list[dict[str, Any]]:
    return json.loads(FIGURES.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="what was measured again")
    parser.add_argument("--commit", help="the commit that it was measured at, in place of the files as they are")
    given = parser.parse_args()
    known = figures()
    if unknown := set(given.names) - {figure["name"] for figure in known}:
        parser.error(f"docs/measured.json has no {', '.join(sorted(unknown))}")
    if given.commit and not given.names:
        parser.error("--commit needs the name of what was measured then")
    files, read = there(given.commit) if given.commit else here()
    shown = ["git", "-C", ROOT, "show", "-s", "--date=short", "--format=%h %ad", given.commit or "HEAD"]
    commit, day = subprocess.run(shown, check=True, capture_output=True, text=True).stdout.split()
    for figure in known:
        if figure["name"] in given.names:
            figure |= {"commit": commit, "date": day if given.commit else date.today().isoformat()}
            figure["digests"] = digests(figure["digests"], files, read)
    now = digests(CODE, *here())
    for figure in known:
        page = ROOT / figure["page"]
        text, written = page.read_text(), sentence(figure, now)
        new, count = place(figure["name"]).subn(lambda _, written=written: written, text)
        page.write_text(new if count else f"{text.rstrip()}\n\n{written}\n")
    FIGURES.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
