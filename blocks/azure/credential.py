"""Signing in to Azure."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any, Literal

from prefect.blocks.core import Block
from pydantic import Field, PrivateAttr, SecretStr, StringConstraints, model_validator

from jobs.errors import InvalidInput

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

__all__ = ["ARM_SCOPE", "AzureCredential", "Guid", "quiet"]

ARM_SCOPE = "https://management.azure.com/.default"
"""What tokens for Azure Resource Manager are asked for with."""

Guid = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]


class _Shared:
    """The SDK's credential, which copies of a block share and no copy outside this process gets."""

    def __init__(self) -> None:
        self.credential: TokenCredential | None = None

    def __deepcopy__(self, memo: Any) -> _Shared:
        return self

    def __reduce__(self) -> tuple[type[_Shared], tuple[()]]:
        return _Shared, ()


class AzureCredential(Block):
    """How to sign in to Azure; several workspaces can share it.

    Secrets leave it only for Azure's sign-in; neither jobs nor logs ever see them.
    """

    _block_type_name = "rebel-nerf Azure credential"
    _block_type_slug = "rebel-nerf-azure-credential"
    _description = "Signs in to Azure: by managed identity, the Azure CLI, or a service principal."

    method: Literal["managed identity", "azure cli", "service principal"] = Field(
        "azure cli",
        description="managed identity: of the machine that runs flows; azure cli: who did `az login` there; "
        "service principal: tenant, client, and a secret or certificate",
    )
    tenant_id: str | None = Field(None, description="of the service principal: the directory's ID or domain")
    client_id: Guid | None = Field(
        None, description="of the service principal, or of a user-assigned managed identity: the application's ID"
    )
    client_secret: SecretStr | None = Field(None, description="of the service principal: the secret's value")
    certificate: SecretStr | None = Field(
        None, description="of the service principal, instead of a secret: certificate and private key as PEM text"
    )
    certificate_password: SecretStr | None = Field(None, description="of the certificate's private key, if it has one")

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

    def sign_in(self) -> TokenCredential:
        """The SDKs' credential. Nothing is asked of Azure yet. Copies of this block share it, and so its tokens."""
        if self._shared.credential is None:
            self._shared.credential = self._make()
        return self._shared.credential

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
            return AzureCliCredential(tenant_id=self.tenant_id or "")
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
    """Keep an SDK's log from people: it calls answers errors that were expected, and repeats what it raises."""
    quiet = logging.getLogger(logger)
    quiet.handlers, quiet.propagate = [logging.NullHandler()], False
