"""`/docs`: the admin API for people, made from its OpenAPI description.

FastAPI's own page loads its program from a public CDN, which a closed network does not reach. This
one loads nothing and needs no JavaScript.
"""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1.5rem}
code,pre{font-family:ui-monospace,monospace}pre{background:var(--soft);padding:.7rem 1rem;
overflow-x:auto;border-radius:.4rem}section{border-top:1px solid var(--line);margin-top:1.5rem}
h3{margin:1rem 0 .2rem}table{border-collapse:collapse}td,th{text-align:left;padding:.15rem 1rem
.15rem 0;vertical-align:top}.method{font-weight:700}
"""
_DEPTH = 24  # deeper than any answer; a schema that holds itself ends here
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


def reference_page(openapi: dict[str, Any]) -> str:
    """Return the page as HTML."""
    return "".join(_page(openapi))


def _page(openapi: dict[str, Any]) -> Iterator[str]:
    info = openapi["info"]
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Moorage API</title>'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    yield f"<style>{_STYLE}</style></head><body>"
    yield f"<h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>"
    yield f"<p>{escape(info['description'])} Machine-readable: "
    yield '<a href="/openapi.json">openapi.json</a>. Downloads for people: <a href="/dl/">/dl/</a>.'
    yield "</p><p>Send the token as <code>Authorization: Bearer …</code>. Errors are "
    yield "<code>application/problem+json</code>; lists are pages with <code>items</code> and "
    yield '<code>next_cursor</code>.</p><pre>curl -H "Authorization: Bearer $MOORAGE_TOKEN" '
    yield "-X POST &lt;this address&gt;/api/v1/releases/sync</pre>"
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            yield from _operation(openapi, path, method, operation)
    yield "</body></html>\n"


def _operation(
    openapi: dict[str, Any], path: str, method: str, operation: dict[str, Any]
) -> Iterator[str]:
    yield f'<section><h3><span class="method">{method.upper()}</span> '
    yield f"<code>{escape(path)}</code></h3>"
    yield f"<p>{escape(operation.get('description', operation.get('summary', '')))}</p>"
    parameters = operation.get("parameters", [])
    if parameters:
        yield "<table><tr><th>Parameter<th>In<th>Type</tr>"
        for parameter in parameters:
            schema = parameter.get("schema", {})
            yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}"
            yield f"<td>{escape(_type(schema))}</tr>"
        yield "</table>"
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if body:
        yield f"<p>Body</p><pre>{escape(_shape(openapi, body['schema']))}</pre>"
    yield "<table>"
    for status, response in sorted(operation["responses"].items()):
        yield f"<tr><td>{status}<td>{escape(response['description'])}"
        schema = response.get("content", {}).get("application/json", {}).get("schema")
        if schema and status.startswith("2"):
            yield f"<pre>{escape(_shape(openapi, schema))}</pre>"
        yield "</tr>"
    yield "</table></section>"


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    default = f", default {json.dumps(schema['default'])}" if "default" in schema else ""
    return str(schema.get("type", "object")) + default


def _shape(openapi: dict[str, Any], schema: dict[str, Any]) -> str:
    return json.dumps(_example(openapi, schema, depth=0), indent=1, ensure_ascii=False)


def _example(openapi: dict[str, Any], schema: dict[str, Any], depth: int) -> Any:
    """Return the schema with types in place of values: {"state": "string"}."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return _example(openapi, openapi["components"]["schemas"][name], depth + 1)
    if depth > _DEPTH:
        return "…"
    if "anyOf" in schema:
        return _example(openapi, schema["anyOf"][0], depth + 1)
    if "properties" in schema:
        return {k: _example(openapi, v, depth + 1) for k, v in schema["properties"].items()}
    if schema.get("type") == "array":
        return [_example(openapi, schema["items"], depth + 1)]
    return schema.get("format") or schema.get("type", "object")
