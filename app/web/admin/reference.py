"""`/docs`: the admin API for people, made from its OpenAPI description.

FastAPI's own page loads its program from a public CDN, which a closed network does not reach. This
one loads nothing and needs no JavaScript.
"""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from app.web.pageshell import code_block, page

_DEPTH = 24  # deeper than any answer; a schema that holds itself ends here


def reference_page(openapi: dict[str, Any]) -> str:
    """Return the page as HTML."""
    return page(f"{openapi['info']['title']} API", "/docs", _body(openapi))


def _body(openapi: dict[str, Any]) -> Iterator[str]:
    info = openapi["info"]
    yield f"<p>Version {escape(info['version'])}. {escape(info['description'])} Machine-readable: "
    yield '<a href="/openapi.json">openapi.json</a>.'
    yield "</p><p>Send the token as <code>Authorization: Bearer …</code>. Errors are "
    yield "<code>application/problem+json</code>; lists are pages with <code>items</code> and "
    yield "<code>next_cursor</code>.</p>"
    yield code_block(
        'curl -H "Authorization: Bearer $MOORAGE_TOKEN" -X POST <this address>/api/v1/releases/sync'
    )
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            yield from _operation(openapi, path, method, operation)


def _operation(
    openapi: dict[str, Any], path: str, method: str, operation: dict[str, Any]
) -> Iterator[str]:
    yield f"<section><h2>{method.upper()} <code>{escape(path)}</code></h2>"
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
        yield f"<p>Body</p>{code_block(_shape(openapi, body['schema']))}"
    yield "<table>"
    for status, response in sorted(operation["responses"].items()):
        yield f"<tr><td>{status}<td>{escape(response['description'])}"
        schema = response.get("content", {}).get("application/json", {}).get("schema")
        if schema and status.startswith("2"):
            yield code_block(_shape(openapi, schema))
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
