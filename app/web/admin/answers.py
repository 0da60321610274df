"""What the routes of tenants declare about their refusals, in one spelling for all of them."""

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
