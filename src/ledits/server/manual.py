"""The page at /docs, written from the OpenAPI description: no script, nothing from another host."""

import html
from collections.abc import Mapping
from typing import Any

# A file of its own, because the content security policy takes no other style.
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; background: light-dark(#fff, #181818);
  color: light-dark(#222, #ddd); overflow-wrap: anywhere }
h2 { margin-top: 2.5rem } h3 { font-family: ui-monospace, monospace; font-size: 1rem; margin: 2rem 0 .25rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top; padding: .2rem .8rem }
tr { border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent) }
a { color: light-dark(#1a56db, #8ab4f8) } td:first-child { min-width: 6rem } td:nth-child(2) { min-width: 5rem }
"""


def manual(description: Mapping[str, Any]) -> str:
    """The HTML of an OpenAPI description."""
    schemas: Mapping[str, Any] = description.get("components", {}).get("schemas", {})
    parts: dict[str, list[str]] = {}
    for path, methods in description["paths"].items():
        for method, told in methods.items():
            body = told.get("requestBody", {}).get("content", {})
            fields = "".join(_table(each["schema"], schemas) for each in body.values())
            kinds = ", ".join(body)
            text = f"<h3>{method.upper()} {html.escape(path)}</h3><p>{html.escape(told.get('description', ''))}</p>"
            text += f"<p>Takes <code>{html.escape(kinds)}</code>:</p>{fields}" if kinds else ""
            parts.setdefault((told.get("tags") or ["server"])[0], []).append(text)
    sections = "".join(f"<h2>{html.escape(tag)}</h2>{''.join(texts)}" for tag, texts in parts.items())
    title = html.escape(f"{description['info']['title']} {description['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs/style.css">'
        f"<h1>{title}</h1><p>{html.escape(description['info'].get('description', ''))} "
        f'<a href="/openapi.json">openapi.json</a></p>{sections}</html>'
    )


def _table(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    schema = _named(schema, schemas)
    rows = [
        f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(_kind(field, schemas))}</td>"
        f"<td>{html.escape(_note(name, field, schema))}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    ]
    return f"<table>{''.join(rows)}</table>"


def _named(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    return schemas.get(schema["$ref"].rsplit("/", 1)[-1], {}) if "$ref" in schema else schema


def _kind(field: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """A field's type in words: "integer or null", "list of text"."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(each, schemas) for each in field["anyOf"]))
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if "$ref" in field:
        return "{" + ", ".join(_named(field, schemas).get("properties", {})) + "}"
    if field.get("format") == "binary":
        return "file"
    if field.get("type") == "array":
        inner = field.get("items", {})
        return f"list of {_kind(inner, schemas)}" if inner else "list"
    kind = str(field.get("type", "anything"))
    return {"string": "text"}.get(kind, kind)


def _note(name: str, field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    notes = [field.get("description", "")]
    if name in schema.get("required", []):
        notes.append("needed")
    elif field.get("default") not in (None, ""):
        notes.append(f"default {field['default']}")
    return "; ".join(note for note in notes if note)
