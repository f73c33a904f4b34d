"""What Azure's SDKs raise, in the words of this project. The SDKs are imported only once something went wrong."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from jobs.errors import InvalidInput, NotFound, RebelNerfError, WorkspaceUnavailable

__all__ = ["StorageError", "is_passing", "is_refused", "plain_errors", "refusal_kind", "translate", "words"]

# A signature in a URL, a client secret in a form, a token in a header: none of it is for a log.
_SECRETS = re.compile(r"(?i)((?:sig|client_secret|client_assertion)=|bearer )[^&\s'\"]+")

# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
_SIGN_IN = {
    "AADSTS7000215": "client_secret: Azure does not know this secret. Take the secret's value, not its ID.",
    "AADSTS7000222": "client_secret: the secret has expired. Make a new one: az ad app credential reset --id CLIENT_ID",
    "AADSTS700016": "client_id: there is no such application in the tenant.",
    "AADSTS700027": "certificate: the application does not know this certificate. Upload its public part there.",
    "AADSTS90002": "tenant_id: there is no such tenant.",
    "AADSTS900023": "tenant_id: this is not a tenant's ID or domain.",
    "AADSTS50034": "client_id: there is no such account in the tenant.",
    "AADSTS700082": "method: the sign-in of the Azure CLI has expired. Sign in again: az login",
}
_MISSING = {
    "SubscriptionNotFound": "subscription_id: there is no such subscription, or this credential may not see it",
    "InvalidSubscriptionId": "subscription_id: this is not a subscription's ID",
    "ResourceGroupNotFound": "resource_group: there is no such group in the subscription",
    "ResourceNotFound": "workspace: there is no such Azure ML workspace in the resource group",
    "WorkspaceNotFound": "workspace: there is no such Azure ML workspace in the resource group",
}


class StorageError(Exception):
    """An answer of blob storage that is no success: its HTTP status and the service's name of the fault."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{code or 'no further words'} (HTTP {status})")
        self.status_code = status
        self.code = code


def is_passing(error: BaseException) -> bool:
    """Whether the same request can succeed later: throttling, a busy server, a cut connection."""
    from azure.core import exceptions as azure
    from azure.identity import CredentialUnavailableError
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    if isinstance(error, (azure.IncompleteReadError, azure.ServiceRequestError, azure.ServiceResponseError)):
        return True
    if isinstance(error, CredentialUnavailableError):  # this machine has no such way to sign in
        return False
    if isinstance(error, azure.ClientAuthenticationError) and error.__cause__:  # sign-in that was not even reached
        return is_passing(error.__cause__)
    if isinstance(error, ssl.SSLError):  # cut in the middle of a handshake, unless it is about the certificate
        return not isinstance(error, ssl.SSLCertVerificationError)
    if isinstance(error, (azure.HttpResponseError, StorageError)):
        code = error.status_code or 0
        return code in (408, 429) or code >= 500 or getattr(error, "code", "") == "Md5Mismatch"
    return isinstance(error, (RequestException, HTTPError, ConnectionError, TimeoutError))


def is_refused(error: BaseException) -> bool:
    """Whether storage refused the credential: a shared access signature that has run out looks like this."""
    from azure.core.exceptions import HttpResponseError

    return isinstance(error, (HttpResponseError, StorageError)) and error.status_code in (401, 403)


def translate(error: Exception, what: str) -> RebelNerfError:
    """The error of `jobs.errors` that an SDK's exception stands for; `what` says what was being done."""
    from azure.core import exceptions as azure

    text = _first_sentences(error)
    if is_passing(error):
        return WorkspaceUnavailable(f"{what}: Azure does not answer ({text})")
    if isinstance(error, azure.ClientAuthenticationError):
        return InvalidInput(f"{what}: {_sign_in(str(error), text)}")
    if isinstance(error, (azure.HttpResponseError, StorageError)):
        code = _code(error)
        if code in _MISSING and error.status_code in (400, 404):
            return InvalidInput(f"{what}: {_MISSING[code]}. Azure says: {text}")
        if error.status_code == 403:
            return InvalidInput(
                f"{what}: the credential lacks a role. Give it «AzureML Data Scientist» on the workspace and, where "
                "the datastore signs in by identity, «Storage Blob Data Contributor» on its storage account. "
                f"Azure says: {text}"
            )
        if error.status_code == 412:
            return InvalidInput(f"{what}: it changed while it was read. Is it still being written? Wait for its end.")
        if error.status_code == 404:
            return NotFound(f"{what}: it is not there. Azure says: {text}")
    return InvalidInput(f"{what}: Azure refuses it: {text}")


@contextmanager
def plain_errors(what: str) -> Iterator[None]:
    """Turn what the SDKs raise inside into errors for people, without the SDKs' frames."""
    try:
        yield
    except (RebelNerfError, AssertionError):
        raise
    except Exception as error:
        foreign = type(error).__module__.partition(".")[0] in ("azure", "msal", "requests", "urllib3")
        if not (foreign or isinstance(error, (StorageError, ConnectionError, TimeoutError, ssl.SSLError))):
            raise
        raise translate(error, what) from None


def _sign_in(full: str, text: str) -> str:
    for code, meaning in _SIGN_IN.items():
        if re.search(rf"{code}\b", full):
            return f"sign-in failed. {meaning}"
    if "authority configuration" in full:
        return f"sign-in failed. {_SIGN_IN['AADSTS90002']}"
    if "az login" in full or "Azure CLI not found" in full:
        return (
            "method: the Azure CLI is not signed in on this machine. Install it where it is missing "
            "(https://learn.microsoft.com/cli/azure/install-azure-cli), then: az login"
        )
    if "ManagedIdentity" in full:
        return f"method: this machine has no managed identity that works ({text})"
    return f"sign-in failed: {text}"


def _code(error: Exception) -> str:
    """The service's own name of a fault; the innermost one that says something."""
    if isinstance(error, StorageError):
        return error.code
    inner = getattr(error, "error", None)
    details = getattr(inner, "details", None) or []
    return str(getattr(details[0] if details else inner, "code", None) or getattr(inner, "code", "") or "")


def _first_sentences(error: Exception, longest: int = 400) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Code:", "Message:", "RequestId:", "Time:"))]
    text = " ".join(told[:2]) or type(error).__name__
    return _SECRETS.sub(r"\1***", text)[:longest]


def words(error: Exception) -> str:
    """What Azure says, in one line and without secrets; long enough to name the policies that refuse something."""
    return _first_sentences(error, longest=2000)


def refusal_kind(error: Exception) -> Literal["policy", "keys", "role"] | None:
    """What stands behind a refusal; None for an error that is no refusal.

    "policy": a company's policy denies it. "keys": the storage account takes no account keys, hence no signatures made
    with them. "role": the credential lacks a role, or anything else that is answered with 403.
    """
    said = f"{getattr(error, 'error_code', '')} {_code(error)} {error}"
    if re.search("RequestDisallowedByPolicy|disallowed by policy", said):
        return "policy"
    if re.search("KeyBasedAuthenticationNotPermitted|Key based authentication is not permitted", said):
        return "keys"
    return "role" if getattr(error, "status_code", None) == 403 else None
