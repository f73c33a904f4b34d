"""Sign-in: the OpenID configuration and tokens for a service principal with a secret or a certificate."""

from __future__ import annotations

import secrets
import time
import uuid
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tests.azureml.service import Answer, Refusal, Request

_RESOURCES = ("https://management.azure.com", "https://management.core.windows.net", "https://ml.azure.com")
_STORAGE = "https://storage.azure.com"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class SignIn:
    """One tenant with one service principal; tokens live for `lifetime` seconds."""

    def __init__(self, certificates: Path) -> None:
        self.tenant, self.client_id = str(uuid.uuid4()), str(uuid.uuid4())
        self.client_secret = secrets.token_urlsafe(30)
        self.lifetime = 3600
        self._key = secrets.token_bytes(64)
        public = x509.load_pem_x509_certificate((certificates / "client.pem").read_bytes()).public_key()
        assert isinstance(public, RSAPublicKey)
        self._public = public

    def answer(self, request: Request) -> Answer:
        """Answer a request to login.microsoftonline.com."""
        if request.path == "/common/discovery/instance":
            hosts = ["login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"]
            cloud = {"preferred_network": hosts[0], "preferred_cache": hosts[1], "aliases": hosts}
            discovery = f"https://{hosts[0]}/{self.tenant}/v2.0/.well-known/openid-configuration"
            return Answer({"tenant_discovery_endpoint": discovery, "api-version": "1.1", "metadata": [cloud]})
        tenant, _, rest = request.path.strip("/").partition("/")
        if tenant != self.tenant:
            return _error(400, "invalid_tenant", 90002, f"Tenant '{tenant}' not found. Check to make sure you have the "
                          "correct tenant ID and are signing into the correct cloud.")  # fmt: skip
        base = f"https://login.microsoftonline.com/{tenant}"
        if rest == "v2.0/.well-known/openid-configuration":
            return Answer(
                {
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                    "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                    "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                    "issuer": f"{base}/v2.0",
                    "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                    "cloud_instance_name": "microsoftonline.com",
                }
            )
        if rest != "oauth2/v2.0/token" or request.method != "POST":
            raise LookupError(f"no {request.method} {request.path} at sign-in")
        form = request.body
        if form["client_id"] != self.client_id:
            return _error(400, "unauthorized_client", 700016, f"Application with identifier '{form['client_id']}' was "
                          f"not found in the directory '{tenant}'.")  # fmt: skip
        if form.get("client_assertion_type") == _ASSERTION:
            try:
                jwt.decode(
                    form["client_assertion"], self._public, ["RS256", "PS256"], audience=f"{base}/oauth2/v2.0/token"
                )
            except jwt.InvalidTokenError as error:
                return _error(401, "invalid_client", 700027, f"The certificate with identifier used to sign the client "
                              f"assertion is not registered on application. [{error}]")  # fmt: skip
        elif form.get("client_secret") != self.client_secret:
            return _error(401, "invalid_client", 7000215, "Invalid client secret provided. Ensure the secret being "
                          "sent in the request is the client secret value, not the client secret ID, for a secret "
                          f"added to app '{self.client_id}'.")  # fmt: skip
        resource = form["scope"].removesuffix("/.default").rstrip("/")
        if resource not in (*_RESOURCES, _STORAGE):
            return _error(400, "invalid_resource", 500011, f"The resource principal named {resource} was not found.")
        return Answer({"token_type": "Bearer", "expires_in": self.lifetime, "ext_expires_in": self.lifetime,
                       "access_token": self.token(resource)})  # fmt: skip

    def token(self, resource: str) -> str:
        """Return a token for a resource, as sign-in and a machine's identity endpoint give it."""
        now = int(time.time())
        claims = {"aud": resource, "tid": self.tenant, "appid": self.client_id}
        ends = {"iat": now, "nbf": now, "exp": now + self.lifetime}
        return jwt.encode({**claims, "iss": f"https://sts.windows.net/{self.tenant}/", **ends}, self._key)

    def check(self, request: Request) -> None:
        """Raise unless the request bears one of our tokens."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer":
            message = "Authentication failed. The 'Authorization' header is missing or invalid."
            raise Refusal(401, "AuthenticationFailed", message, headers={"WWW-Authenticate": "Bearer"})
        try:
            jwt.decode(token, self._key, ["HS256"], audience=_RESOURCES)
        except jwt.InvalidTokenError as error:
            code = (
                "ExpiredAuthenticationToken"
                if isinstance(error, jwt.ExpiredSignatureError)
                else "InvalidAuthenticationToken"
            )
            raise Refusal(401, code, str(error), headers={"WWW-Authenticate": "Bearer"}) from error


def _error(status: int, error: str, number: int, description: str) -> Answer:
    trace = str(uuid.uuid4())
    description = f"AADSTS{number}: {description} Trace ID: {trace} Correlation ID: {trace} Timestamp: {time.ctime()}"
    return Answer(
        {"error": error, "error_description": description, "error_codes": [number], "trace_id": trace}, status
    )
