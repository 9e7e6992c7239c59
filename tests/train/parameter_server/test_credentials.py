from datetime import UTC, datetime, timedelta

import pytest

from sparkneuro.train.parameter_server.credentials import NAME, make_credentials

x509 = pytest.importorskip("cryptography.x509", reason="needs the tls extra")
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: E402


@pytest.mark.parametrize("tls", [False, True])
def test_every_run_has_secrets_of_its_own(tls):
    one, other = make_credentials(tls), make_credentials(tls)
    assert one.token != other.token and len(one.token) >= 43  # 256 bits, 6 a letter
    assert (one.certificate != other.certificate and one.key != other.key) == tls


@pytest.mark.parametrize("tls", [False, True])
def test_no_secret_is_in_what_is_printed(tls):
    credentials = make_credentials(tls)
    for shown in (repr(credentials), str(credentials), f"{[credentials]}"):
        assert credentials.token not in shown
        assert "PRIVATE KEY" not in shown and "CERTIFICATE" not in shown


def test_the_certificate_is_for_the_servers_name_and_for_these_days():
    certificate = x509.load_pem_x509_certificate(make_credentials(tls=True).certificate.encode())
    now = datetime.now(UTC)
    assert now - timedelta(hours=2) < certificate.not_valid_before_utc < now - timedelta(minutes=59)
    assert now + timedelta(days=89) < certificate.not_valid_after_utc < now + timedelta(days=91)
    (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert name.value == NAME and names.get_values_for_type(x509.DNSName) == [NAME]
    certificate.verify_directly_issued_by(certificate)


def test_the_key_is_the_certificates_and_on_a_curve():
    credentials = make_credentials(tls=True)
    key = load_pem_private_key(credentials.key.encode(), None)
    certificate = x509.load_pem_x509_certificate(credentials.certificate.encode())
    assert isinstance(key.curve, ec.SECP256R1) and key.public_key() == certificate.public_key()


def test_without_tls_nothing_is_encrypted_and_no_proxy_is_asked():
    credentials = make_credentials()
    assert credentials.scheme == "grpc" and credentials.server_options() == {}
    assert credentials.client_options() == {"generic_options": [("grpc.enable_http_proxy", 0)]}
    assert make_credentials(tls=True).scheme == "grpc+tls"
