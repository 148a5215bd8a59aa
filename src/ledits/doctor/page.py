"""A report as one page that can be attached to a bug report: its pictures are inside."""

import base64
import html
import io
import json

from PIL import Image

from ledits.doctor.checks import Report

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "background:light-dark(#fff,#181818);color:light-dark(#222,#ddd)}"
    "h1,td:last-child{overflow-wrap:anywhere}"
    "table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;padding:.3rem 1rem .3rem 0}"
    "figure{display:inline-block;margin:0 1rem 1rem 0}figcaption{font-size:.9rem}img{max-width:16rem;min-width:10rem}"
    ".wrong{color:light-dark(#b00020,#ff8a80);font-weight:700}.ok{color:light-dark(#00602b,#7bd88f)}code{font-size:.85rem}"
)
_SIDE = 512  # of a picture on the page


def page(report: Report) -> str:
    """HTML."""
    rows = "".join(
        f"<tr><th>{html.escape(check.name)}<td class='{'wrong' if check.verdict == 'wrong' else check.verdict[:2]}'>"
        f"{html.escape(check.verdict)}<td>{html.escape(check.says)}"
        + (f"<br><code>{html.escape(json.dumps(dict(check.figures)))}</code>" if check.figures else "")
        for check in report.checks
    )
    shown = "".join(
        f"<figure><img src='{_inside(picture)}' alt=''><figcaption>{html.escape(name)}</figcaption></figure>"
        for name, picture in report.pictures.items()
    )
    said = "Nothing wrong was found." if report.healthy else "Something is wrong."
    name = html.escape(report.model)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>ledits doctor: {name}</title>"
        f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style><h1>{name}</h1><p>{said} Whether its "
        f"pictures are good is for you to see.</p><table>{rows}</table><h2>Pictures</h2>{shown}</html>"
    )


def _inside(picture: Image.Image) -> str:
    small = picture.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    data = io.BytesIO()
    small.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
