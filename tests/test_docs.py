"""The project page: every block of code on it runs or is named here, its links lead somewhere, its pictures are there.

Pages run on `ToyBackbone` in place of a model, so that this is quick; docs/pictures.py runs the same blocks on the
bundled model, for what they show. The README has a test of its own.
"""

import fnmatch
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from markdown_it import MarkdownIt
from playwright.sync_api import sync_playwright

import ledits
from ledits import backbones, cli, editor
from ledits.testing import DEFAULTS, ToyBackbone

from conftest import BUNDLED_FOLDER, scheduler, tiny

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "docs"))
import pictures  # noqa: E402  (the folder is no package)

PAGES = pictures.pages()
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
# Made by `ledits bench report`: their commands are those that made them.
REPORTS = ("scenes/report", "scenes/curves")

# What is too slow, or needs what is not here, and who runs it. Options of our own commands are read all the same.
ELSEWHERE = {
    r"ledits (studio|serve)\b": "test_studio, test_serve_process",
    r"ledits mcp\b": "test_mcp",
    r"ledits batch\b": "test_batch, test_batch_ray (--ray), test_batch_stores (s3://)",
    r"ledits bench\b": "test_bench, test_bench_public",
    r"python benchmarks/": "nobody: they take minutes to hours, and their figures are on the page",
    r"python examples/benchmark_manifest.py": "test_batch",
    r"pip install|python3 -m venv|hf download|ray start": "nobody: they need a network",
    r"echo ": "nobody: it writes into what hf downloads",
}
# Blocks that need what is not here, by the comment above them, and who runs them.
NEEDS = {
    "hub": "here, on networks of the same layout with random weights",
    "photograph": "here, on a picture of a scene",
    "network": "nobody",
    "upscaler": "test_pipelines_families",
    "server": "test_serve_process",
    "gimp": "test_gimp, by tests/gimp_script.py",
    "theirs": "nobody: it is another package's code, shown to be compared with ours",
}
HERE = ("", "hub", "photograph")
TOPS = ("docs", "integrations", "skills", "training", "src/ledits/models")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the pictures that pages read, where any model's name loads a toy."""

    def toy(model: str = "scenes", **_: Any) -> ToyBackbone:
        # As many steps as the bundled model takes: pages name some of them.
        return ToyBackbone(model, defaults=DEFAULTS.changed({"steps": 25}))

    monkeypatch.setattr(editor, "load", toy)
    monkeypatch.setattr(editor, "loaded", lambda asked, **_: toy(asked.model))  # what the command line asked for
    monkeypatch.setattr(backbones, "load", toy)
    for kind in (ledits.LEditsPPPipelineStableDiffusion, ledits.LEditsPPPipelineStableDiffusionXL):
        monkeypatch.setattr(kind, "from_pretrained", lambda *_, kind=kind, **__: tiny(kind, scheduler()))
    editor._editor.cache_clear()
    monkeypatch.chdir(tmp_path)
    pictures.samples(tmp_path)
    # Folders that pages name; what a toy is loaded for must look like a checkpoint.
    for name in ("sdxl-turbo", "my-checkpoint"):
        shutil.copytree(BUNDLED_FOLDER, tmp_path / name)
    yield tmp_path
    editor._editor.cache_clear()


@pytest.mark.parametrize("name", [name for name in PAGES if name not in REPORTS])
def test_the_code_of_a_page_runs(name, folder, capfd):
    # What prose around the blocks of some pages has said already.
    said = {"model": "owner/name", "source": "a cat", "target": "a dog"}
    variables: dict[str, Any] = {"ledits": ledits, "torch": torch, **said}
    if name == "speed":
        variables["pipe"] = tiny(ledits.LEditsPPPipelineStableDiffusion, scheduler())
    for block in pictures.blocks(PAGES[name]):
        assert block.needs in ("", *NEEDS), f"{name}.md, line {block.line}: a need that is not listed here"
        if block.language == "python" and block.needs in HERE:
            # Fewer steps of the pipelines' networks, which compute something.
            code = re.sub(r"num_inversion_steps=\d+", "num_inversion_steps=4", block.code)
            exec(compile("\n" * block.line + code, f"{name}.md", "exec"), variables)
        elif block.language == "bash" and block.needs not in ("network", "server"):
            for line in block.code.replace("\\\n", " ").splitlines():
                run(line, f"{name}.md, line {block.line}", capfd)
    # What the page shows is what its code made.
    for variable in pictures.shown(PAGES[name]):
        assert pictures.strip(variables[variable]).width > 64
        assert (ROOT / "docs/pictures" / name / f"{variable}.png").exists(), "make pictures"


def run(line: str, where: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A line of a page's shell commands; one that another test runs has its options read."""
    line = line.removeprefix(".venv/bin/")
    words = shlex.split(line, comments=True)
    if any(re.match(pattern, line) for pattern in ELSEWHERE):
        if words[0] == "ledits":
            accepted(words[1:])
        elif words[0] == "python":
            assert (ROOT / words[1]).exists(), where
        for extra in re.findall(r"\[([a-z0-9,]+)\]", line) if words[0] == "pip" else ():
            assert set(extra.split(",")) <= set(project()["optional-dependencies"]), where
        return
    assert words[0] == "ledits", f"{where}: nobody runs {line!r}; list it in ELSEWHERE with who does"
    if words[1] == "demo":  # the folder is there
        words.append("--force")
    with pytest.raises(SystemExit) as stop:
        cli.main(words[1:])
    assert stop.value.code == 0, (where, line, capfd.readouterr().err)


def accepted(words: list[str]) -> None:
    """The words after "ledits" name a command and options that it has."""
    command = typer.main.get_command(cli.app)
    while hasattr(command, "get_command") and words != ["--help"]:
        context = command.make_context("ledits", [], resilient_parsing=True)
        command, words = command.get_command(context, words[0]), words[1:]
        assert command is not None
    if words != ["--help"]:
        command.make_context("ledits", list(words))


# Every page that a user reads and git keeps, but for the logs.
PROSE = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(file for top in TOPS for file in (ROOT / top).rglob("*.md"))]
    if "log" not in path.parts and path.name != "CHANGELOG.md"
)


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_names_commands_and_options_that_there_are(path):
    """In blocks each command of ours is one that the command line would take; in a sentence its options exist."""
    for token in MarkdownIt().parse(path.read_text()):
        if token.type in ("fence", "code_block"):
            for line in token.content.replace("\\\n", " ").splitlines():
                if re.match(r"(\.venv/bin/)?ledits ", line.strip()):
                    words = shlex.split(line, comments=True)[1:]
                    # What the shell takes for itself: "< cat.png > piped.png".
                    own = next((k for k, word in enumerate(words) if word in ("<", ">", "|", "&&")), len(words))
                    accepted(words[:own])
        for child in token.children or ():
            if child.type == "code_inline" and re.match(r"ledits [a-z]", child.content):
                named(child.content.split()[1:])


def named(words: list[str]) -> None:
    """A command, perhaps of a command, and options of it; what stands for a value is not looked at."""
    command = typer.main.get_command(cli.app)
    while hasattr(command, "get_command") and words and re.fullmatch(r"[a-z+-]+", words[0]):
        context = command.make_context("ledits", [], resilient_parsing=True)
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
    parameters = command.make_context("ledits", [], resilient_parsing=True).command.params
    known = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if re.fullmatch(r"--?[a-z][a-z-]*", word):
            assert word in {*known, "--help"}, f"{command.name} has no {word}"


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name", [name for name in PAGES if name not in REPORTS])
def test_code_is_fenced_and_says_what_it_is(name):
    """An indented block would escape the test above."""
    text = PAGES[name].read_text()
    for token in MarkdownIt().parse(text):
        if token.type == "code_block":  # what is indented below a tab or a fold has a fence in it, or is prose
            assert "```" in token.content or not re.match(r"(ledits|python|pip|import|from|\$)\b", token.content), token
        if token.type == "fence":
            assert token.info in ("python", "bash", "javascript", "diff", "text", "csv"), (name, token.map)


def test_no_entry_of_these_lists_is_stale():
    found = [block for path in PAGES.values() for block in pictures.blocks(path)]
    lines = [
        line.removeprefix(".venv/bin/")
        for block in found
        if block.language == "bash"
        for line in block.code.splitlines()
    ]
    for pattern in ELSEWHERE:
        assert any(re.match(pattern, line) for line in lines), pattern
    assert {block.needs for block in found} == {"", *NEEDS}
    named = re.findall(r"\btest_\w+", " ".join([*ELSEWHERE.values(), *NEEDS.values()]))
    for test in named:
        assert (ROOT / "tests" / f"{test}.py").exists(), test


def test_no_picture_is_left_over():
    """Each was made for a page that still shows it."""
    shown = {f"{name}/{variable}.png" for name, path in PAGES.items() for variable in pictures.shown(path)}
    folder = ROOT / "docs/pictures"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")} == shown


DOCUMENTS = [*ROOT.glob("*.md"), *PAGES.values()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    """Within the repository; MkDocs, strict, looks at the same within the site."""
    outside = (ROOT / "docs/hooks.py").read_text()
    for target in links(path.read_text()):
        if target.startswith(("https://", "mailto:")):
            continue
        assert not target.startswith(("http:", "/")), target
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        if path in PAGES.values() and ROOT / "docs" not in there.parents:
            assert f'"{there.relative_to(ROOT).as_posix()}"' in outside, f"{target}: docs/hooks.py does not publish it"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there.read_text()), target


def links(text: str) -> list[str]:
    found: list[str] = []
    for token in MarkdownIt().enable("table").parse(re.sub(r"^( *)```.*?^\1```", "", text, flags=re.M | re.S)):
        for child in token.children or ():
            if child.type == "link_open":
                found.append(str(child.attrs["href"]))
            if child.type == "image":
                found.append(str(child.attrs["src"]))
    return found


def anchors(text: str) -> set[str]:
    """As MkDocs and GitHub make them of headings, for the headings that we have."""
    heads = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.replace("`", "")).strip().lower().replace(" ", "-") for head in heads}


def test_the_map_of_the_tests_has_every_test():
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## The tests")[2].partition("\n## ")[0]
    patterns = re.findall(r"`(test_[\w*]+)`", section)
    files = [path.stem for path in (ROOT / "tests").glob("test_*.py")]
    assert [name for name in files if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not fnmatch.filter(files, pattern)] == []


def test_the_version_is_the_same_everywhere():
    assert f"version: {ledits.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    ruff = re.search(r"^ruff==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert ruff is not None
    assert f"rev: v{ruff[1]}\n" in (ROOT / ".pre-commit-config.yaml").read_text()


def test_figures_on_pages_are_the_reports():
    """Another model brings another report, and these pages quote it."""
    report = PAGES["scenes/report"].read_text()

    def cell(title: str, method: str, column: str) -> float:
        section = report.partition(f"## {title}\n")[2].partition("\n## ")[0]
        head, _, *rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
        row = next(row for row in rows if row[0].strip() == method)
        return float(row[[name.strip() for name in head].index(column)].split()[0])

    captions, limits = PAGES["captions"].read_text(), PAGES["limits"].read_text()
    shown = (
        ("as typed", "LEDITS++ by words, this package"), ("words alone", "ours"), ("as typed", "ours")
    )  # fmt: skip
    measure = "PSNR to reconstruction, dB"
    psnr = [cell(f"Preservation and cost, {told}", method, measure) for told, method in shown]
    assert f"| {psnr[0]} dB | {psnr[1]} dB | **{psnr[2]} dB** |" in captions
    success = [f"{cell(f'Success, {told}', method, 'all kinds'):.0f} %" for told, method in shown]
    assert f"| {success[0]} | {success[1]} | **{success[2]}** |" in captions
    three, two = (f"{cell('Success, as typed', 'ours', kind):.0f}" for kind in ("three", "two"))
    assert f"Three edits at once succeed in {three} % of cases, two in {two} %." in limits
    lines = PAGES["benchmarks"].read_text().splitlines()
    table = [[value.strip() for value in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    names = next(row for row in table if row[:2] == ["told", "method"])
    row = dict(zip(names, next(row for row in table if row[:2] == ["as typed", "**ours**"]), strict=True))
    assert (row["three"], row["two"]) == (three, two)
    assert f"{row['success'].split()[0].strip('*')} %" == success[2]


TABLE = """<article><table><thead><tr><th>method</th><th>success</th><th>mask</th></tr></thead><tbody>
<tr><td>a</td><td>9.5 (8.0 to 11.0)</td><td>none</td></tr><tr><td>c</td><td>82.1 (78.9 to 85.4)</td><td></td></tr>
<tr><td>b</td><td></td><td>noise</td></tr><tr><td>d</td><td>-3 (-4 to -2)</td><td>both 1</td></tr>
</tbody></table><table><thead><tr><th>you write</th><th>what happens</th></tr></thead><tbody>
<tr><td>+</td><td>adds</td></tr><tr><td>-</td><td>removes</td></tr><tr><td>:</td><td>1 of these</td></tr>
<tr><td>@</td><td>is left alone</td></tr></tbody></table></article>"""


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no chromium: apt-get install chromium")
def test_tables_of_numbers_sort_and_others_are_left_alone():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox"])
        page = browser.new_page()
        page.set_content(TABLE)
        page.add_script_tag(path=ROOT / "docs/assets/tables.js", type="module")
        page.wait_for_selector("th button")
        assert page.locator("th button").all_text_contents() == ["method", "success"]
        order = page.locator("table >> nth=0").locator("tbody td:first-child")
        page.click("text=success")
        assert order.all_text_contents() == ["c", "a", "d", "b"]  # as numbers, the largest first, nothing last
        page.click("text=success")
        assert order.all_text_contents() == ["d", "a", "c", "b"]
        page.click("text=method")
        assert order.all_text_contents() == ["a", "b", "c", "d"]
        browser.close()


@pytest.mark.skipif(not shutil.which("mkdocs", path=str(Path(sys.executable).parent)), reason="no mkdocs: make docs")
def test_the_site_builds_without_a_warning_and_asks_no_other_host(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*?(?:src|href)=\"?(https?://[^\"\s>]+)", page.read_text())
        assert loaded == [], page
    index = (tmp_path / "site/llms.txt").read_text()
    for name in PAGES:
        if name != "index":
            assert f"({name}/)" in index, name
