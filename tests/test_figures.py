"""No figure on a page is older than the page says: it names the version, and what has changed since."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "docs"))
import measured  # noqa: E402  (the folder is no package)

FIGURES = measured.figures()
PAGES = ("README.md", "docs/speed.md", "docs/benchmarks.md", "docs/batch.md", "docs/scenes/report.md")


@pytest.fixture(scope="module")
def now() -> dict[str, str]:
    return measured.digests(measured.CODE, *measured.here())


@pytest.mark.parametrize("figure", FIGURES, ids=[figure["name"] for figure in FIGURES])
def test_a_page_says_which_code_its_figures_are_of_and_what_has_changed_since(figure, now):
    text, wanted = (ROOT / figure["page"]).read_text(), measured.sentence(figure, now)
    found = measured.place(figure["name"]).search(text)
    assert found is not None, (
        f"{figure['page']} does not say which code its figures '{figure['name']}' are of: "
        "`python docs/measured.py` adds the sentence at its end"
    )
    assert found[0] == wanted, (
        f"the code has changed since the figures '{figure['name']}' of {figure['page']} were measured. Run "
        f"`{figure['command']}` again, write its figures there, then `python docs/measured.py {figure['name']}`; "
        "or let the page say that they are old: `python docs/measured.py`"
    )


@pytest.mark.parametrize("page", PAGES)
def test_below_every_table_of_figures_stands_which_code_they_are_of(page):
    text = (ROOT / page).read_text()
    said = [match.start() for match in re.finditer(r"<!-- measured: [\w-]+ -->", text)]
    assert set(re.findall(r"<!-- measured: ([\w-]+) -->", text)) == {
        figure["name"] for figure in FIGURES if figure["page"] == page
    }
    for table in re.finditer(r"(?:^\|.*\n)+", text, re.MULTILINE):
        cells = [cell.strip(" *") for line in table[0].splitlines()[2:] for cell in line.strip("|").split("|")[1:]]
        figures = [cell for cell in cells if re.match(r"[-+<]?\d+(\.\d+)?( ?(%|s|dB|GiB|x)| \(|,|$)", cell)]
        if cells and len(figures) > len(cells) / 3:
            assert any(at >= table.end() for at in said), (
                f"{page}: nothing says which code the table after {table[0].splitlines()[0]!r} is of: add an entry to "
                "docs/measured.json, and run `python docs/measured.py`"
            )


def test_each_part_of_the_code_has_files():
    files, _ = measured.here()
    for what, patterns in measured.CODE.items():
        for pattern in patterns:
            assert any(measured.fnmatch(name, pattern) for name in files), (what, pattern)


def test_what_changes_a_figure_changes_the_digest_and_words_for_readers_do_not():
    def read(text):
        return measured.digest("the method", ["src/ledits/method/core.py"], lambda _: text.encode())

    assert read("a = 1\n") == read("# one\n\na = 1  \n") == read('"""What\nit is."""\na = 1\n')
    assert read('def f():\n    """A."""\n    return 1\n') == read('def f():\n    """B,\n    c."""\n    return 1\n')
    assert read('a = """one"""\n') != read('a = """two"""\n')
    assert read("a = 1\n") != read("a = 2\n")
    assert read("if a:\n    b = 1\n") != read("if a:\n    pass\nb = 1\n")
    places = ("src/ledits/models/scenes/unet/a.safetensors", "packages/x/models/scenes/unet/a.safetensors")
    assert len({measured.digest("the bundled model", [place], lambda _: b"1") for place in places}) == 1


def test_an_old_figure_says_so():
    figure = {"name": "x", "commit": "abc", "date": "2026-11-02", "digests": {"the method": "1", "batches": "2"}}
    fresh = measured.sentence(figure, {"the method": "1", "batches": "2"})
    assert fresh == "<!-- measured: x -->\n*Measured with the code of 2 November 2026 (`abc`).*"
    old = measured.sentence(figure, {"the method": "3", "batches": "2"})
    assert old.endswith("(`abc`). Changed since then, and not measured again: the method.*")
    assert measured.place("x").search(f"a\n\n{old}\n\nb")[0] == old
