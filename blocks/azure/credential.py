"""Sign in to Azure."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Annotated, Any, Literal

from prefect.blocks.core import Block
from pydantic import Field, PrivateAttr, SecretStr, StringConstraints, model_validator

from jobs.errors import InvalidInput

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential

__all__ = ["ARM_SCOPE", "AzureCredential", "Guid", "Tokens", "quiet"]

ARM_SCOPE = "https://management.azure.com/.default"
"""The scope of tokens for Azure Resource Manager."""

# `az account get-access-token` takes 12 s and more on a busy machine. By default azure-identity allows it 10 s.
# https://github.com/Azure/azure-cli/issues/20404, https://github.com/Azure/azure-sdk-for-python/issues/37167
_AZ_SECONDS = 90
_RENEW_SECONDS = 120.0  # before a token ends. Tokens of `az` and of managed identities are cached, so they may end soon

Guid = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]


class Tokens:
    """A token credential for all threads. It asks its source once for each kind of token and keeps the answer.

    Threads that want the same token at the same time wait for one request and share its outcome, an error included.

    Args:
        source: one of the SDK's credentials.
    """

    def __init__(self, source: TokenCredential) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._kept: dict[tuple[tuple[str, ...], str | None], tuple[AccessToken, float]] = {}
        self._asked: dict[tuple[Any, ...], Future[AccessToken]] = {}

    def get_token(
        self, *scopes: str, claims: str | None = None, tenant_id: str | None = None, enable_cae: bool = False, **_: Any
    ) -> AccessToken:
        """Return a token for the scopes: the cached one, unless it ends soon or Azure challenges it with claims.

        `enable_cae` is left out, so that clients with and without it share a token.
        """
        kept = scopes, tenant_id
        with self._lock:
            token, renewal = self._kept.get(kept, (None, 0.0))
            if token and time.time() < renewal and not claims:
                return token
            asked = self._asked.get((*kept, claims))
            if first := asked is None:
                asked = self._asked[(*kept, claims)] = Future()
        if not first:
            return asked.result()
        try:
            token = self._source.get_token(*scopes, claims=claims, tenant_id=tenant_id)
            now = time.time()  # keep a token that ends soon for at least half of its remaining time
            self._kept[kept] = token, max(token.expires_on - _RENEW_SECONDS, (now + token.expires_on) / 2)
            asked.set_result(token)
        except BaseException as error:
            asked.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._asked[(*kept, claims)]
        return token


class _Shared:
    """The credential that copies of a block share. Copies outside this process do not get it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tokens: Tokens | None = None

    def __deepcopy__(self, memo: Any) -> _Shared:
        return self

    def __reduce__(self) -> tuple[type[_Shared], tuple[()]]:
        return _Shared, ()


class AzureCredential(Block):
    """How to sign in to Azure. Several workspaces can share it.

    Its secrets are sent to Azure's sign-in only. Neither jobs nor logs see them.
    """

    _block_type_name = "rebel-nerf Azure credential"
    _block_type_slug = "rebel-nerf-azure-credential"
    _description = "Signs in to Azure: by managed identity, the Azure CLI, or a service principal."

    method: Literal["managed identity", "azure cli", "service principal"] = Field(
        "azure cli",
        description="How to sign in. managed identity: that of the machine that runs flows. azure cli: as the user of "
        "`az login` on that machine. service principal: with tenant_id, client_id, and a secret or certificate.",
    )
    tenant_id: str | None = Field(None, description="Directory of the service principal: its ID or domain.")
    client_id: Guid | None = Field(
        None, description="Application ID of the service principal or of a user-assigned managed identity."
    )
    client_secret: SecretStr | None = Field(None, description="Secret of the service principal: its value, not its ID.")
    certificate: SecretStr | None = Field(
        None, description="Certificate of the service principal and its private key, as PEM text. Instead of a secret."
    )
    certificate_password: SecretStr | None = Field(
        None, description="Password of the certificate's private key, if it has one."
    )

    _shared: _Shared = PrivateAttr(default_factory=lambda: _Shared())

    @model_validator(mode="after")
    def _complete(self) -> AzureCredential:
        if self.method == "service principal":
            missing = [name for name in ("tenant_id", "client_id") if not getattr(self, name)]
            if not (self.client_secret or self.certificate):
                missing.append("client_secret (or certificate)")
            if missing:
                raise ValueError(f"a service principal needs {', '.join(missing)}")
        return self

    def sign_in(self) -> Tokens:
        """Return the credential for the SDKs, without asking Azure yet. Copies of this block share it and its tokens.

        Raises:
            InvalidInput: the certificate cannot be read.
        """
        with self._shared.lock:
            if self._shared.tokens is None:
                self._shared.tokens = Tokens(self._make())
            return self._shared.tokens

    def _make(self) -> TokenCredential:
        from azure.identity import (
            AzureCliCredential,
            CertificateCredential,
            ClientSecretCredential,
            ManagedIdentityCredential,
        )

        quiet("azure.identity")
        if self.method == "managed identity":
            return ManagedIdentityCredential(client_id=self.client_id)
        if self.method == "azure cli":
            return AzureCliCredential(tenant_id=self.tenant_id or "", process_timeout=_AZ_SECONDS)
        assert self.tenant_id and self.client_id
        if self.client_secret:
            return ClientSecretCredential(self.tenant_id, self.client_id, self.client_secret.get_secret_value())
        assert self.certificate
        password = self.certificate_password
        try:
            return CertificateCredential(
                self.tenant_id,
                self.client_id,
                certificate_data=self.certificate.get_secret_value().encode(),
                password=password.get_secret_value() if password else None,
            )
        except ValueError as error:
            raise InvalidInput(
                f"certificate: it is not PEM text with a certificate and its private key ({error}), "
                "or certificate_password is wrong."
            ) from None


def quiet(logger: str) -> None:
    """Silence an SDK's log. It reports expected answers as errors, and repeats what it raises."""
    quiet = logging.getLogger(logger)
    quiet.handlers, quiet.propagate = [logging.NullHandler()], False
