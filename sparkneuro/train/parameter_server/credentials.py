"""What proves that a call belongs to the run: a random token, and with TLS a certificate made for this run alone."""

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sparkneuro.errors import require

# One certificate serves all addresses of a run; clients expect this name in it, whatever host they reach.
NAME = "sparkneuro"
VALID = timedelta(days=90)


@dataclass(frozen=True)
class Credentials:
    """Secrets of one run.

    They travel to servers by standard input and to workers within Spark's own channels, never on a command line.

    Parameters
    ----------
    token : str
        What every call must carry.
    certificate, key : str or None
        PEM text. With them every connection is encrypted, and each side must show this certificate: a stranger fails
        at the handshake, before a message of theirs is read.
    """

    token: str = field(repr=False)
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)

    @property
    def scheme(self):
        """Scheme of addresses, ``grpc`` or ``grpc+tls``."""
        return "grpc+tls" if self.certificate else "grpc"

    def server_options(self):
        """Return what `pyarrow.flight.FlightServerBase` needs for TLS.

        Returns
        -------
        options : dict
            Empty without TLS.
        """
        if not self.certificate:
            return {}
        certificate, key = self.certificate.encode(), self.key.encode()
        return {"tls_certificates": [(certificate, key)], "verify_client": True, "root_certificates": certificate}

    def client_options(self):
        """Return what `pyarrow.flight.FlightClient` needs.

        Returns
        -------
        options : dict
            Keyword arguments.
        """
        # A proxy for the web, named in the environment, is no way to a server of our own.
        direct = {"generic_options": [("grpc.enable_http_proxy", 0)]}
        if not self.certificate:
            return direct
        certificate, key = self.certificate.encode(), self.key.encode()
        return {**direct, "tls_root_certs": certificate, "cert_chain": certificate, "private_key": key, "override_hostname": NAME}


def make_credentials(tls=False):
    """Make the secrets of a new run.

    Parameters
    ----------
    tls : bool
        Whether connections are encrypted.

    Returns
    -------
    credentials : Credentials
        A token of 256 random bits, and a self-signed certificate on the P-256 curve.

    Raises
    ------
    MissingExtraError
        When TLS is wanted and ``cryptography`` is not installed.
    """
    token = secrets.token_urlsafe(32)
    if not tls:
        return Credentials(token)
    x509 = require("cryptography.x509", "tls")
    hashes = require("cryptography.hazmat.primitives.hashes", "tls")
    curves = require("cryptography.hazmat.primitives.asymmetric.ec", "tls")
    serialization = require("cryptography.hazmat.primitives.serialization", "tls")
    key = curves.generate_private_key(curves.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of machines differ: valid from an hour ago.
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return Credentials(
        token,
        certificate.public_bytes(encoding).decode(),
        key.private_bytes(encoding, form, serialization.NoEncryption()).decode(),
    )
