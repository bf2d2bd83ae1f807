"""The identity tokens that push requests carry: signed here, with a key that is published here.

Claims and form are those of Google's tokens, so that a receiver verifies both with the same code and only another
address of certificates.
"""

from datetime import timedelta
from functools import cached_property
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from google.auth import crypt, jwt

from shared.clock import Clock

ISSUER = "https://accounts.google.com"
LIFE_SECONDS = 3600
_CERTIFICATE_LIFE = timedelta(days=3650)
_KEY_BITS = 2048

_jwt: Any = jwt  # its functions have no types
_crypt: Any = crypt


class TokenIssuer:
    """Signs tokens with a key of its own, which is made at first use and ends with the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def token(self, *, email: str, audience: str) -> str:
        """Return a token that says that `email`, a service account, calls `audience`."""
        issued_at = int(self._clock.now().timestamp())
        claims = {
            "iss": ISSUER,
            "aud": audience,
            "azp": email,
            "sub": str(int(sha256(email.encode()).hexdigest()[:16], 16)),
            "email": email,
            "email_verified": True,
            "iat": issued_at,
            "exp": issued_at + LIFE_SECONDS,
        }
        return bytes(_jwt.encode(self._signer, claims)).decode()

    def certificates(self) -> dict[str, str]:
        """Return the certificates by key id, as Google publishes them for its own keys."""
        return {self._key_id: self._certificate}

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)

    @cached_property
    def _certificate(self) -> str:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "local Pub/Sub endpoint")])
        now = self._clock.now()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + _CERTIFICATE_LIFE)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    @cached_property
    def _key_id(self) -> str:
        return sha256(self._certificate.encode()).hexdigest()[:40]

    @cached_property
    def _signer(self) -> Any:
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return _crypt.RSASigner.from_string(pem, key_id=self._key_id)
