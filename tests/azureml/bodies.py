"""What the bodies of requests and answers have in common."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tests.azureml.members import ENUMS, MEMBERS
from tests.azureml.service import Answer, Refusal, Request

if TYPE_CHECKING:
    from tests.azureml.state import Workspace

Json = dict[str, Any]
TYPE = "Microsoft.MachineLearningServices/workspaces"
# Of an operation that goes on. The service sends Retry-After in seconds; Azure's SDK takes this header as well.
SOON = {"x-ms-retry-after-ms": "100"}
_PAGE = 5  # so short that every test that lists also turns pages


def only(given: Json, kind: str, request: Request) -> Json:
    """Return what was given; raise for a member or a value that the service does not know."""
    for member in given:
        if member not in MEMBERS[kind]:
            at = request.raw.find(f'"{member}"'.encode())
            raise invalid(
                f"Could not find member '{member}' on object of type '{kind}'. Path '{member}', line 1, position {at}."
            )
        if member in ENUMS and given[member] is not None and given[member] not in ENUMS[member]:
            raise invalid(f"Error converting value \"{given[member]}\" to type '{member}'. Path '{member}'.")
    return given


def check_tags(given: Json) -> None:
    """Raise for tags that are too many or too long."""
    tags = given.get("tags") or {}
    if len(tags) > 50 or any(len(key) > 100 or len(value) > 1000 for key, value in tags.items()):
        raise Refusal(400, "UserError", "At most 50 tags, keys of 100 and values of 1000 characters.")


def invalid(message: str) -> Refusal:
    """Return the 400 for a body that the service cannot read."""
    text = "Request is invalid and/or missing fields."
    return Refusal(400, "UserError", text, [("RequestInvalid", message)], inner=("RequestInvalid",))


def not_found(code: str, message: str) -> Refusal:
    """Return the 404 for an asset, job or datastore."""
    return Refusal(404, "UserError", "The specified resource was not found.", [(code, message)])


def resource(ws: Workspace, kind: str, name: str, properties: Json, system: Json) -> Json:
    """Return the body of a resource of a workspace."""
    plain = re.sub(r"/[^/]+/versions", "/versions", kind)
    return {
        "id": f"{ws.base}/{kind}/{name}",
        "name": name,
        "type": f"{TYPE}/{plain}",
        "properties": properties,
        "systemData": system,
    }


def system_data(modified: str = "") -> Json:
    """Return who made a resource when, and who changed it, if `modified` says of which type they are."""
    data = {"createdAt": now(), "createdBy": "emulator", "createdByType": "User"}
    return (
        {**data, "lastModifiedAt": now(), "lastModifiedBy": "0", "lastModifiedByType": modified} if modified else data
    )


def now() -> str:
    """Return the time as the service writes it."""
    return datetime.now(timezone.utc).isoformat()


def location(request: Request, ws: Workspace) -> dict[str, str]:
    """Return the header that says where a new resource is."""
    path = request.path.replace("{ws}", ws.base)
    return {"Location": f"https://management.azure.com{path}?api-version={request.query['api-version']}"}


def page(request: Request, values: list[Json]) -> Answer:
    """Return a page of a list, with the link to the next one."""
    start, path = int(request.query.get("$skip") or 0), request.headers["path"]
    size = int(request.query.get("$top") or _PAGE)
    body: Json = {"value": values[start : start + size]}
    if "$top" not in request.query and len(values) > start + size:
        query = "&".join(f"{key}={value}" for key, value in {**request.query, "$skip": start + size}.items())
        body["nextLink"] = f"https://management.azure.com{path}?{query}"
    return Answer(body)


def target(given: Json) -> str:
    """Return the name of a job's cluster."""
    return str(given.get("computeId") or "serverless").rpartition("/")[2]
