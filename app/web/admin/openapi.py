"""The description of the admin API, completed: what every route may answer besides its own.

A route names the statuses that are its own (404, 409 …). Here are those that come from what is
around every route: the checks of a request's size and shape, tokens, limits, the database and the
disk. Every error is an RFC 9457 problem.
"""

from typing import Any

from fastapi import FastAPI

_PROBLEM_TYPE = "application/problem+json"
_API = "/api/v1/"
_PROBLEM = {
    "title": "Problem",
    "description": "An RFC 9457 problem: what went wrong, for people.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["at", "error"],
                "properties": {"at": {"type": "string"}, "error": {"type": "string"}},
            },
        },
    },
}
_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer"},
    "password": {"type": "http", "scheme": "basic", "description": "The token as the password"},
}
_EVERYWHERE = {
    "400": "The request is malformed",
    "414": "The URL is too long",
    "431": "The headers are too many or too long",
}
_API_ROUTES = {
    "429": "Too many requests, or wrong tokens",
    "500": "A defect of this server; its log has the details",
    "503": "The database or the store can't be used now; try again",
}
_PARAMETERS = {"422": "A parameter is not what this route takes"}
_BODIES = {
    "413": "The body is too large",
    "415": "The body is not JSON",
    "422": "The body or a parameter is not what this route takes",
}
_CHANGES = {"507": "The server's disk is full: nothing new is stored"}


class AdminApi(FastAPI):
    """FastAPI with a complete description of the answers."""

    def openapi(self) -> dict[str, Any]:
        """Return the description; made once."""
        if self.openapi_schema is None:
            complete(super().openapi())
        return super().openapi()


def complete(document: dict[str, Any]) -> None:
    """Add what every route may answer, and give every problem its schema."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = _PROBLEM
    components["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete_operation(path, method, operation)


def _complete_operation(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    # FastAPI's own 422 names a model that is never sent.
    if "422" in responses and _PROBLEM_TYPE not in responses["422"].get("content", {}):
        del responses["422"]
    for status, description in _shared_answers(path, method, operation).items():
        responses.setdefault(status, {"description": description, "content": {_PROBLEM_TYPE: {}}})
    for response in responses.values():
        if _PROBLEM_TYPE in response.get("content", {}):
            response["content"] = {
                _PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}
            }
    operation["responses"] = dict(sorted(responses.items()))
    if "401" in responses:
        operation["security"] = [{name: []} for name in _SCHEMES]


def _shared_answers(path: str, method: str, operation: dict[str, Any]) -> dict[str, str]:
    """Return status → description of what comes from around a route."""
    answers = dict(_EVERYWHERE)
    if not path.startswith(_API):
        return answers
    answers |= _API_ROUTES
    if operation.get("parameters"):
        answers |= _PARAMETERS
    if "requestBody" in operation:
        answers |= _BODIES
    if method != "get":
        answers |= _CHANGES
    return answers
