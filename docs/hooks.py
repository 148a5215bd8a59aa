"""What MkDocs can't do by itself: files from elsewhere in the tree, a chart and the command line's pages, llms.txt."""

import html
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files
from PIL import Image

from ledits import cli

ROOT = Path(__file__).parent.parent
EXAMPLES = ("examples/ray-cluster.yaml", "examples/ray_data.py", "examples/benchmark_manifest.py")
_read: dict[str, tuple[str, str, str]] = {}  # title, description and Markdown of each page, for llms.txt


def on_config(config: Any, **_: Any) -> Any:
    if config.extra["repository"]:
        config.nav.append({"Source": config.extra["repository"]})
    return config


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Examples and the studio's icon lie outside docs/; they are published where pages link them."""
    elsewhere = {"assets/icon.svg": "src/ledits/studio/static/icon.svg", **{name: name for name in EXAMPLES}}
    for address, source in elsewhere.items():
        files.append(File.generated(config, address, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    # In the repository pages link to ../examples; here that folder is beside them.
    markdown = markdown.replace("](../examples/", "](examples/")
    if page.file.src_uri.startswith("scenes/"):
        page.meta["hide"] = ["toc"]  # for tables as wide as these
    if "<!-- chart -->" in markdown:
        markdown = markdown.replace("<!-- chart -->", chart((ROOT / "docs/scenes/report.md").read_text()))
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", commands())
    title = re.search(r"^# (.*)$", markdown, re.MULTILINE)
    _read[page.file.src_uri] = (
        page.title or (title[1] if title else page.file.name),
        page.meta.get("description") or _first_sentence(markdown),
        markdown,
    )
    return markdown


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Strips of pictures at half their size: one size for all their labels, and sharp on a fine screen."""

    def sized(match: re.Match[str]) -> str:
        with Image.open(ROOT / "docs" / match[1]) as strip:
            return f'{match[0]} width="{strip.width // 2}" height="{strip.height // 2}" loading="lazy"'

    return re.sub(r'src="(?:\.\./)*(pictures/[\w/]+\.png)"', sized, content)


def on_post_build(config: Any, **_: Any) -> None:
    """llms.txt (llmstxt.org): what there is to read, a line a page, and llms-full.txt, all of it."""
    lines = ["# ledits", "", f"> {config.site_description}", ""]
    full: list[str] = []
    for section in config.nav:
        for heading, entries in section.items():
            if entries == config.extra["repository"]:
                continue
            lines += [f"## {heading}", ""]
            for name in [entries] if isinstance(entries, str) else [next(iter(e.values())) for e in entries]:
                title, description, markdown = _read[name]
                address = name.removesuffix("index.md") if name.endswith("index.md") else name.removesuffix(".md") + "/"
                address = (config.site_url or "") + address or "./"
                lines.append(f"- [{title}]({address}){': ' + description if description else ''}")
                full += [markdown, ""]
            lines.append("")
    site = Path(config.site_dir)
    (site / "llms.txt").write_text("\n".join(lines))
    (site / "llms-full.txt").write_text("\n".join(full))


def chart(report: str) -> str:
    """Success and what was kept, of every method, as typed, as bars: from the tables of the scenes report."""
    success, kept = _table(report, "Success, as typed"), _table(report, "Preservation and cost, as typed")
    rows: list[str] = []
    for name, values in success.items():
        percent, low, high = _numbers(values["all kinds"])
        decibels, *_ = _numbers(kept[name]["PSNR to reconstruction, dB"])
        ours = name == "ours"
        label = "ledits" if ours else html.escape(name)
        interval = f"95 % interval: {low:g} to {high:g} %"
        cells = _bar(percent, f"{percent:.0f} %", interval) + _bar((decibels - 15) * 5, f"{decibels:.1f} dB", "")
        rows.append(f"<tr{' class=ours' if ours else ''}><th scope=row>{label}</th>{cells}</tr>")
    head = "<tr><th>Editor, on the same weights</th><th>Edits that succeed</th><th>The rest is kept at</th></tr>"
    return f'<table class="chart"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def _bar(share: float, text: str, title: str) -> str:
    """A cell with a bar that fills `share` % of it."""
    return f'<td title="{title}"><div class=bar style="--share:{share:.1f}%"></div><span>{text}</span></td>'


def commands() -> str:
    """The help of every command, as the program itself knows it."""
    group = typer.main.get_command(cli.app)
    context = group.make_context("ledits", [], resilient_parsing=True)
    return "\n".join(_command(name, group.get_command(context, name)) for name in group.list_commands(context))


def _command(name: str, command: Any, above: str = "ledits") -> str:
    context = command.context_class(command, info_name=f"{above} {name}")
    heading = "##" if above == "ledits" else "###"
    usage = " ".join([context.info_name, *command.collect_usage_pieces(context)])
    about, _, rest = (command.help or "").partition("\n")
    lines = [f"{heading} {above} {name}", "", about, "", "```text", usage, "```", ""]
    if "\b" in rest:
        example, _, after = rest.partition("\b\n")[2].partition("\n\n")
        lines += ["```text", example.replace("\\[", "["), "```", "", _plain(after), ""]
    panels: dict[str, list[Any]] = {}
    for parameter in command.get_params(context):
        if getattr(parameter, "help", None) and not re.search("help|completion", parameter.name):
            usual = "Options" if parameter.param_type_name == "option" else "Arguments"
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append(parameter)
    for panel, parameters in panels.items():
        lines += [f"| {panel} | |", "|---|---|"]
        for parameter in parameters:
            written = f" {parameter.metavar}" if parameter.metavar else ""
            option = parameter.param_type_name == "option"
            names = parameter.opts if option else [(parameter.metavar or parameter.name).upper()]
            cell = ", ".join(f"`{each}{written if option else ''}`" for each in names)
            said = _plain(parameter.help).replace("|", "\\|")
            lines.append(f"| {cell} | {said} |")
        lines.append("")
    if hasattr(command, "list_commands"):
        lines += [_command(each, command.get_command(context, each), f"{above} {name}")
                  for each in command.list_commands(context)]  # fmt: skip
    return "\n".join(lines)


def _first_sentence(markdown: str) -> str:
    prose = re.sub(r"^( *)```.*?^\1```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    paragraph = next((part for part in prose.split("\n\n") if re.match(r"\s*[\w`*\[]", part)), "")
    return re.split(r"(?<=[.:]) ", " ".join(paragraph.split()))[0].strip("*")


def _plain(text: str) -> str:
    text = " ".join(text.replace("\\[", "[").split())
    return html.escape(text, quote=False).replace("*", "\\*").replace("[", "\\[")


def _table(report: str, title: str) -> dict[str, dict[str, str]]:
    """A table of the report: the cells of each row, by its first cell and by the heads of the columns."""
    section = report.partition(f"## {title}\n")[2].partition("\n## ")[0]
    head, _, *rows = [[cell.strip() for cell in line.strip("| ").split(" | ")]
                      for line in section.splitlines() if line.startswith("|")]  # fmt: skip
    return {row[0]: dict(zip(head, row, strict=False)) for row in rows}


def _numbers(cell: str) -> tuple[float, float, float]:
    value, low, high = (float(number) for number in re.findall(r"[\d.]+", cell))
    return value, low, high
