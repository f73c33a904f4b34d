"""A private authority, and one certificate for every host name of the emulator."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HOSTS = (
    "management.azure.com",
    "login.microsoftonline.com",
    "*.api.azureml.ms",
    "*.blob.core.windows.net",
    "localhost",
)
_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def write_certificates(folder: Path) -> None:
    """Write `ca.pem`, `cert.pem` + `key.pem` (the servers'), and `client.pem` (a service principal's, with its key)."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = ec.generate_private_key(ec.SECP256R1())
    server = ec.generate_private_key(ec.SECP256R1())
    client = rsa.generate_private_key(65537, 2048)  # sign-in takes RSA only
    names = [x509.DNSName(host) for host in HOSTS] + [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    _write(folder / "ca.pem", _certificate("emulator CA", authority, authority, x509.BasicConstraints(True, None)))
    _write(folder / "cert.pem", _certificate("emulator", server, authority, x509.SubjectAlternativeName(names)))
    _write(folder / "key.pem", _private(server))
    _write(folder / "client.pem", _certificate("client", client, client) + _private(client))


def _certificate(name: str, key: _Key, issuer: _Key, *extensions: x509.ExtensionType) -> bytes:
    now = datetime.now(timezone.utc)
    issuer_name = "emulator CA" if isinstance(issuer, ec.EllipticCurvePrivateKey) else name
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(issuer, hashes.SHA256()).public_bytes(Encoding.PEM)


def _private(key: _Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    file.chmod(0o600)
