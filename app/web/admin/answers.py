"""What the routes of tenants declare about their refusals, in one spelling for all of them."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Path

Responses = dict[int | str, dict[str, Any]]

PROBLEM: dict[str, Any] = {"content": {"application/problem+json": {}}}
REFUSED: Responses = {
    401: {**PROBLEM, "description": "No valid token"},
    403: {**PROBLEM, "description": "Not an admin of it"},
}
MALFORMED: Responses = {400: {**PROBLEM, "description": "It can't be; the detail says why"}}
UNKNOWN: Responses = {404: {**PROBLEM, "description": "There is no such thing"}}
TAKEN: Responses = {409: {**PROBLEM, "description": "It contradicts what is recorded"}}
STALE: Responses = {412: {**PROBLEM, "description": "It was changed since that ETag"}}

TenantName = Annotated[str, Path(description="The tenant's name")]
RecordId = Annotated[int, Path(ge=1, lt=1 << 63, description="The id that lists show")]


def content_line(error: Mapping[str, Any]) -> str:
    """Return why a body of the right shape is refused; in a document, with the place.

    An error at ("body", "document", "tenants", "acme", "rules", 2, "pattern") begins with
    "tenants.acme.rules[2]: ".
    """
    at, reason = error["loc"], error["msg"]
    if at[:2] != ("body", "document"):
        return str(reason)
    match at[2:]:
        case ("tenants", name, ("rules" | "routes") as part, int(number), *_):
            return f"tenants.{str(name)[:80]}.{part}[{number}]: {reason}"
        case ("tenants", name, "credentials", str(credential), *_):
            return f"tenants.{str(name)[:80]}.credentials.{credential[:80]}: {reason}"
        case ("tenants", name, *_):
            return f"tenants.{str(name)[:80]}: {reason}"
        case (part, int(number), *_):
            return f"{part}[{number}]: {reason}"
    return str(reason)
