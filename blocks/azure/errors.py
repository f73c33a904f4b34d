"""Turn errors of Azure's SDKs into this project's errors. The SDKs are imported only after an error."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import TimeoutExpired
from typing import Any

from jobs.errors import InvalidInput, NotFound, RebelNerfError, WorkspaceUnavailable

__all__ = ["StorageError", "is_passing", "is_refused", "lacks_role", "plain_errors", "refusal", "translate"]

# Signatures in URLs, keys, client secrets in forms and tokens in headers must not reach a log.
_SECRETS = re.compile(r"(?i)((?:sig|accountkey|client_secret|client_assertion)=|bearer )[^&;\s'\"]+")
_LONGEST = 1000  # characters of Azure's own words in an error

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
# What the service's codes for a refusal mean, and what to do.
# https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors
# https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes
_DATA_ROLE = (
    "the credential lacks a role on the storage account. Give it «Storage Blob Data Contributor» there, or, if the "
    "datastore has its own shared access signature, use one that allows reading, writing, listing and deleting."
)
_ROLE = (
    "the credential lacks a role. Give it «AzureML Data Scientist» on the workspace and, if the datastore signs in "
    "by identity, «Storage Blob Data Contributor» on its storage account."
)
_FORBIDDEN = {
    # https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-policy-requestdisallowedbypolicy
    "RequestDisallowedByPolicy": "a policy of your organization forbids it. Change the setting that the policy is "
    "about, or ask whoever assigns policies for an exemption.",
    # https://learn.microsoft.com/azure/machine-learning/how-to-disable-local-auth-storage
    "KeyBasedAuthenticationNotPermitted": "the storage account accepts neither account keys nor signatures made with "
    "them. Switch the workspace's datastores to identity (az ml workspace update --system-datastores-auth-mode "
    "identity), give this credential «Storage Blob Data Contributor» on the storage account, and give the clusters a "
    "user-assigned identity with the same role.",
    # https://learn.microsoft.com/troubleshoot/azure/azure-storage/blobs/authentication/storage-troubleshoot-403-errors
    "AuthorizationFailure": "the storage account's network rules do not admit this machine. Add its address or its "
    "virtual network to them, or run this program where the account can be reached.",
    "AuthorizationPermissionMismatch": _DATA_ROLE,
    "LinkedAuthorizationFailed": "the credential may not use another resource that the request names. Give it «Managed "
    "Identity Operator» on a user-assigned identity, or «Network Contributor» on a virtual network.",
    "AuthorizationFailed": _ROLE,
}


class StorageError(Exception):
    """An answer of blob storage that reports an error.

    Args:
        status: its HTTP status.
        code: the service's code for the fault, "" if it gave none.
        message: the service's own words, "" if it gave none.
    """

    def __init__(self, status: int, code: str, message: str = "") -> None:
        text = f"{message} ({code}, HTTP {status})" if message and code else f"{message or code} (HTTP {status})"
        super().__init__(text.lstrip())
        self.status_code = status
        self.code = code


def is_passing(error: BaseException) -> bool:
    """Return whether the same request can succeed later: after throttling, a busy server, or a cut connection."""
    from azure.core import exceptions as azure
    from azure.identity import CredentialUnavailableError
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    if isinstance(error, (azure.IncompleteReadError, azure.ServiceRequestError, azure.ServiceResponseError)):
        return True
    if isinstance(error, CredentialUnavailableError):  # this machine cannot sign in like this, or `az` was too slow
        return isinstance(error.__cause__, TimeoutExpired)
    if isinstance(error, azure.ClientAuthenticationError) and error.__cause__:  # the sign-in service was not reached
        return is_passing(error.__cause__)
    if type(error).__module__.startswith("azure.ai.ml") and error.__cause__:  # the SDK wraps whatever an upload raised
        return is_passing(error.__cause__)
    if isinstance(error, ssl.SSLError):  # a handshake that was cut, unless the certificate is the problem
        return not isinstance(error, ssl.SSLCertVerificationError)
    if isinstance(error, (azure.HttpResponseError, StorageError)):
        code = error.status_code or 0
        return code in (408, 429) or code >= 500 or getattr(error, "code", "") == "Md5Mismatch"
    return isinstance(error, (RequestException, HTTPError, ConnectionError, TimeoutError))


def is_refused(error: BaseException) -> bool:
    """Return whether storage refused the credential. It does so when a shared access signature has expired."""
    from azure.core.exceptions import HttpResponseError

    return isinstance(error, (HttpResponseError, StorageError)) and error.status_code in (401, 403)


def translate(error: Exception, what: str) -> RebelNerfError:
    """Return the error of `jobs.errors` for an SDK's exception.

    Args:
        error: the SDK's exception.
        what: what was being done, with which the text begins.
    """
    from azure.core import exceptions as azure

    text = _first_sentences(error)
    if isinstance(error.__cause__, TimeoutExpired):
        text = f"the Azure CLI gave no token within {error.__cause__.timeout:g} s"
    if is_passing(error):
        return WorkspaceUnavailable(f"{what}: Azure does not answer ({text})")
    if isinstance(error, azure.ClientAuthenticationError):
        return InvalidInput(f"{what}: {_sign_in(str(error), text)}")
    if refusal := _refusal(error):
        policies = ", ".join(dict.fromkeys(_policies(getattr(error, "error", None))))
        named = f" Policy: {policies}." if policies else ""
        return InvalidInput(f"{what}: {_FORBIDDEN[refusal]}{named} Azure says: {text}")
    if isinstance(error, (azure.HttpResponseError, StorageError)):
        code = _code(error)
        if code in _MISSING and error.status_code in (400, 404):
            return InvalidInput(f"{what}: {_MISSING[code]}. Azure says: {text}")
        if error.status_code == 412:
            return InvalidInput(
                f"{what}: it changed while it was read. If it is still being written, wait for that to end."
            )
        if error.status_code == 404:
            return NotFound(f"{what}: it does not exist. Azure says: {text}")
    return InvalidInput(f"{what}: Azure refuses it: {text}")


def lacks_role(error: Exception) -> bool:
    """Return whether Azure refused a request because the credential lacks a role."""
    return _refusal(error) in ("AuthorizationFailed", "AuthorizationPermissionMismatch")


@contextmanager
def plain_errors(what: str) -> Iterator[None]:
    """Turn errors of the SDKs inside into errors for people, without the SDKs' stack traces."""
    try:
        yield
    except (RebelNerfError, AssertionError):
        raise
    except Exception as error:
        # azure-ai-ml wraps some answers of storage in a bare Exception.
        wrapped = error.__cause__ if type(error) is Exception else None
        found = next((each for each in (error, wrapped) if isinstance(each, Exception) and _is_foreign(each)), None)
        if found is None:
            raise
        raise translate(found, what) from None


def _is_foreign(error: Exception) -> bool:
    """Return whether an SDK or the network raised the error, not this program."""
    foreign = type(error).__module__.partition(".")[0] in ("azure", "msal", "requests", "urllib3")
    return foreign or isinstance(error, (StorageError, ConnectionError, TimeoutError, ssl.SSLError))


def _refusal(error: Exception) -> str | None:
    """Return the code in `_FORBIDDEN` that says why Azure refused, or None if it did not refuse or none is known."""
    if (code := _code(error)) in _FORBIDDEN:
        return code
    # Services wrap one another's answers: what fails after a long-running operation has the status 200, and Azure ML
    # puts storage's code into its own text.
    text = str(error)
    if named := re.search(rf"\b({'|'.join(_FORBIDDEN)})\b", text):
        return named[1]
    forbidden = getattr(error, "status_code", None) == 403
    return "AuthorizationFailed" if forbidden and re.search("not have (authorization|permission)", text) else None


def _policies(fault: Any) -> Iterator[str]:
    """Yield the names of the policies in a fault and its details, each with its assignment."""
    for more in getattr(fault, "additional_info", None) or ():
        if more.type == "PolicyViolation":
            policy, assignment = (
                more.info.get(f"policy{kind}DisplayName") or more.info.get(f"policy{kind}Name")
                for kind in ("Definition", "Assignment")
            )
            yield f"«{policy}»" + (f" (assignment «{assignment}»)" if assignment and assignment != policy else "")
    for detail in getattr(fault, "details", None) or ():
        yield from _policies(detail)


def _sign_in(full: str, text: str) -> str:
    for code, meaning in _SIGN_IN.items():
        if re.search(rf"{code}\b", full):
            return f"sign-in failed. {meaning}"
    if "authority configuration" in full:
        return f"sign-in failed. {_SIGN_IN['AADSTS90002']}"
    if "az login" in full or "Azure CLI not found" in full:
        return (
            "method: the Azure CLI is not signed in on this machine. Install it if it is missing "
            "(https://learn.microsoft.com/cli/azure/install-azure-cli), then: az login"
        )
    if "ManagedIdentity" in full:
        return f"method: this machine has no working managed identity ({text})"
    return f"sign-in failed: {text}"


def _code(error: Exception) -> str:
    """Return the service's own code of a fault: the innermost one that is specific."""
    if isinstance(error, StorageError):
        return error.code
    inner = getattr(error, "error", None)
    details = getattr(inner, "details", None) or []
    return str(getattr(details[0] if details else inner, "code", None) or getattr(inner, "code", "") or "")


def _first_sentences(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    dropped = ("Code:", "Message:", "Target:", "RequestId:", "Time:", "Additional Information:")
    kept = [line for line in lines if line and not line.startswith(dropped)]
    text = _SECRETS.sub(r"\1***", " ".join(kept[:2])) or type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def refusal(error: Exception) -> tuple[str, str] | None:
    """Return the service's code for why it refused and what it said, or None if it did not refuse or none is known."""
    code = _refusal(error)
    return (code, _first_sentences(error)) if code else None
