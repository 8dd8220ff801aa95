"""Keys and certificates of one start of one cluster: made afresh, never reused."""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = datetime.timedelta(days=90)


def make_keys(directory: Path, addresses: Sequence[str]) -> str:
    """Write ``ca.pem``, ``cert.pem`` and ``key.pem`` for clients; return the server's PEM.

    ``addresses`` are those at which the server will be reached. Its PEM is its private key, its
    certificate and the authority's. The authority's own key is forgotten here, so nobody can make
    another certificate.
    """
    authority_key = ec.generate_private_key(ec.SECP256R1())
    name = _name("labkit")
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    issued_by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    # Python 3.13 verifies strictly (RFC 5280): key identifiers, and what each key is for.
    authority = (
        _builder(name, name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )

    def issue(common: str, usage: x509.ObjectIdentifier, sans: Sequence[str]) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common), name, key.public_key())
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage("digital_signature"), True),
            (x509.ExtendedKeyUsage([usage]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (issued_by, False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        if sans:
            ips = [x509.IPAddress(ipaddress.ip_address(a)) for a in sans]
            builder = builder.add_extension(x509.SubjectAlternativeName(ips), critical=False)
        certificate = builder.sign(authority_key, hashes.SHA256())
        return _pem(key), certificate.public_bytes(serialization.Encoding.PEM).decode()

    server_key, server = issue("engine", ExtendedKeyUsageOID.SERVER_AUTH, addresses)
    client_key, client = issue("client", ExtendedKeyUsageOID.CLIENT_AUTH, ())
    ca = authority.public_bytes(serialization.Encoding.PEM).decode()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file, text in (("ca.pem", ca), ("cert.pem", client), ("key.pem", client_key)):
        path = directory / file
        path.touch(mode=0o600)
        path.write_text(text)
    return server_key + server + ca


def worn(directory: Path) -> bool:
    """Tell whether the client's certificate is past half of its time, or cannot be read."""
    try:
        certificate = x509.load_pem_x509_certificate((directory / "cert.pem").read_bytes())
    except (OSError, ValueError):
        return True
    now = datetime.datetime.now(datetime.UTC)
    until = certificate.not_valid_after_utc
    return now < certificate.not_valid_before_utc or until - now < VALID / 2


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*allowed: str) -> x509.KeyUsage:
    """Return what a key may be used for, and nothing else."""
    uses = """digital_signature content_commitment key_encipherment data_encipherment key_agreement
    key_cert_sign crl_sign encipher_only decipher_only""".split()
    return x509.KeyUsage(**{use: use in allowed for use in uses})


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + VALID)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
