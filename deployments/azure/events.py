"""Relay events from Azure Event Grid to Prefect: `rebel-nerf azure events --block azure --port 8081`.

Event Grid posts what happens to blobs, in its own schema or as CloudEvents. The relay reports to Prefect which scenes
have new photos; a trigger of the deployment `reprocess/captures` starts a run once a scene's upload has settled.

The handshake: https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema and
https://learn.microsoft.com/azure/event-grid/end-point-validation-cloud-events-schema; the events of blobs:
https://learn.microsoft.com/azure/event-grid/event-schema-blob-storage; what Event Grid does after each answer:
https://learn.microsoft.com/azure/event-grid/delivery-and-retry
"""

from __future__ import annotations

import hmac
import json
import os
import re
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from pydantic import AliasChoices, BaseModel, Field, SecretStr, TypeAdapter, ValidationError

from blocks.azure import AzureMLWorkspace
from deployments.azure.common import capture_event, run
from deployments.azure.options import AzureOptions
from jobs.errors import InvalidInput
from jobs.media import is_media
from jobs.names import SceneName

__all__ = ["Events", "Relay", "main"]

KEY = "REBEL_NERF_EVENTS_KEY"
_SHORTEST_KEY = 16
_MOST_BYTES = 2 << 20  # of a request: Event Grid's largest batch is about one MiB
_TIMEOUT = 20.0  # seconds for Prefect's server to answer; Event Grid waits for 30
_BLOB_EVENTS = ("Microsoft.Storage.BlobCreated", "Microsoft.Storage.BlobRenamed")
_HANDSHAKE = "Microsoft.EventGrid.SubscriptionValidationEvent"


class Events(AzureOptions):
    """Listen to Azure Event Grid, and report to Prefect each scene whose photos change.

    The key that Event Grid must present comes from $REBEL_NERF_EVENTS_KEY, or from a block.
    """

    host: str = Field("127.0.0.1", description="the address to listen on; 0.0.0.0 in a container")
    port: int = Field(8081, ge=1, le=65535, description="the port to listen on, behind a reverse proxy with TLS")
    key_block: str = Field(
        "", description="name of a saved Secret block with the key; by default, the key is $REBEL_NERF_EVENTS_KEY"
    )


class _Posted(BaseModel):
    """An event in Event Grid's schema or as a CloudEvent."""

    kind: str = Field(validation_alias=AliasChoices("eventType", "type"))
    source: str = Field("", validation_alias=AliasChoices("topic", "source"))
    subject: str = ""
    data: Any = None


class Relay(ThreadingHTTPServer):
    """The server that Event Grid posts to. It refuses what it could not pass on, and Event Grid sends that again.

    Args:
        address: host and port to listen on.
        workspace: the workspace whose storage account, container and folder of captures count.
        reference: the value of a flow's parameter `workspace` for it.
        key: what a request must present, as `?code=…` or `Authorization: Bearer …`.
        client: a client of the Prefect server.

    Raises:
        InvalidInput: the relay cannot listen on the address.
    """

    def __init__(
        self,
        address: tuple[str, int],
        workspace: AzureMLWorkspace,
        reference: str,
        key: SecretStr,
        client: SyncPrefectClient,
    ) -> None:
        self.account, container, captures = workspace.dropped_in()
        self.subject = f"/blobServices/default/containers/{container}/blobs/{captures}/"
        self._reference, self._key, self._client = reference, key.get_secret_value().encode(), client
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            raise InvalidInput(
                f"host, port: {address[0]}:{address[1]} cannot be listened on ({error}). Choose another --port."
            ) from None

    def allows(self, shown: str) -> bool:
        """Return whether a request presented the key."""
        return hmac.compare_digest(shown.encode(errors="replace"), self._key)

    def scene(self, event: _Posted) -> str | None:
        """Return the scene to which an event added a photo or video, or None if it is about anything else."""
        if event.kind not in _BLOB_EVENTS or not event.subject.startswith(self.subject):
            return None
        if not event.source.lower().endswith(f"/storageaccounts/{self.account}".lower()):
            return None
        scene, _, path = event.subject.removeprefix(self.subject).partition("/")
        try:
            TypeAdapter(SceneName).validate_python(scene)
        except ValidationError:
            return None
        return scene if is_media(path) else None

    def tell(self, scenes: set[str]) -> None:
        """Send Prefect one event for each scene, all in one request.

        Raises:
            httpx.HTTPError: the server did not accept them.
        """
        events = [capture_event("changed", scene, self._reference) for scene in sorted(scenes)]
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):  # Event Grid tries again, and must not wait
            self._client.request("POST", "/events", json=[event.model_dump(mode="json") for event in events])


class _Handler(BaseHTTPRequestHandler):
    server: Relay
    timeout = 30.0

    def do_OPTIONS(self) -> None:
        """Answer CloudEvents' handshake, by which a sender asks whether it may post here."""
        origin = self.headers.get("WebHook-Request-Origin", "")
        if not self._is_allowed():
            self._answer(HTTPStatus.UNAUTHORIZED)
        elif not re.fullmatch(r"[\w.:*-]+", origin):
            self._answer(HTTPStatus.BAD_REQUEST)
        else:
            allowed = {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*", "Allow": "POST, OPTIONS"}
            self._answer(HTTPStatus.OK, headers=allowed)

    def do_POST(self) -> None:
        """Take events, or answer Event Grid's handshake."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,18}", length):
            self._answer(HTTPStatus.LENGTH_REQUIRED)
        elif int(length) > _MOST_BYTES:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            body = self.rfile.read(int(length))  # even if the request is refused: else the answer can get lost
            if self._is_allowed():
                self._take(body)
            else:
                self._answer(HTTPStatus.UNAUTHORIZED)

    def _take(self, body: bytes) -> None:
        try:
            found = TypeAdapter(list[_Posted] | _Posted).validate_json(body)
        except ValidationError:
            self._answer(HTTPStatus.BAD_REQUEST)
            return
        events = found if isinstance(found, list) else [found]
        for event in events:
            if event.kind == _HANDSHAKE and isinstance(event.data, dict):
                self._answer(HTTPStatus.OK, {"validationResponse": event.data.get("validationCode")})
                return
        scenes = {scene for event in events if (scene := self.server.scene(event))}
        try:
            if scenes:
                self.server.tell(scenes)
        except httpx.HTTPError as error:
            print(
                f"Prefect's server did not get the events of {', '.join(sorted(scenes))}: {error!r}",
                file=sys.stderr,
                flush=True,
            )
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        self._answer(HTTPStatus.OK)

    def _is_allowed(self) -> bool:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        codes = parse_qs(urlsplit(self.path).query).get("code", [])
        if scheme.lower() == "bearer":
            codes.append(token)
        return any(map(self.server.allows, codes))

    def _answer(self, status: HTTPStatus, content: Any = None, headers: dict[str, str] | None = None) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Log nothing, because a request's first line contains the key."""


def main(options: Events) -> None:
    """Listen until a signal comes.

    Raises:
        InvalidInput: the block, the server or the key is missing.
    """
    if not options.block:
        raise InvalidInput("block: give the name of a saved block of the workspace; a flow finds it by that.")
    if not PREFECT_API_URL.value():
        raise InvalidInput("PREFECT_API_URL is not set: it says which Prefect server gets the events.")
    reference, key = f"{AzureMLWorkspace.get_block_type_slug()}/{options.block}", _key(options)
    with (
        get_client(httpx_settings={"timeout": _TIMEOUT}, sync_client=True) as client,
        Relay((options.host, options.port), options.open(), reference, key, client) as relay,
    ):
        print(
            f"Listening on {options.host}:{options.port} for Event Grid's events of {relay.account}, {relay.subject}…"
        )
        sys.stdout.flush()
        relay.serve_forever()


def _key(options: Events) -> SecretStr:
    source, key = f"${KEY}", SecretStr(os.environ.get(KEY, ""))
    if options.key_block:
        source = f"the Secret block {options.key_block}"
        try:
            secret = Secret.load(options.key_block)
        except ValueError as error:
            raise InvalidInput(
                f"key_block: {source} could not be loaded ({error}). Create it in Prefect's UI, under Blocks."
            ) from None
        assert isinstance(secret, Secret)
        key = SecretStr(str(secret.get()))
    if len(key.get_secret_value()) < _SHORTEST_KEY:
        raise InvalidInput(
            f"{source} holds no key of at least {_SHORTEST_KEY} characters, which Event Grid must present. "
            "Make one: openssl rand -hex 32"
        )
    return key


if __name__ == "__main__":
    run(Events, main, sys.argv[1:])
