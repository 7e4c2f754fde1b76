"""Certificates made for a test: nothing on disk outlives it, and nobody else trusts them."""

import datetime
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat


@dataclass(frozen=True)
class Certificate:
    """Files of a certificate for localhost and 127.0.0.1, which signs itself, and of its key."""

    file: Path
    key_file: Path

    @property
    def settings(self) -> dict[str, Any]:
        """A server's settings."""
        return {"tls_certificate_file": str(self.file), "tls_key_file": str(self.key_file)}

    def trusted(self) -> ssl.SSLContext:
        """For a client that trusts it and nothing else."""
        return ssl.create_default_context(cafile=self.file)


def certificate(folder: Path, name: str = "server", *, passphrase: bytes | None = None) -> Certificate:
    """Make a certificate and its key in a folder; those of the same name are written over."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key.pem")
    made.file.write_bytes(built.public_bytes(Encoding.PEM))
    protection = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    made.key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
    return made
