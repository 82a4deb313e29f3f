"""Certificates: a context made from files, made anew when they change, and how long they are still good for."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_UTC_TIME, _EXPLICIT_0 = 0x17, 0xA0
_LONG_FORM = 0x80


class InvalidCertificates(Exception):
    """The files cannot be used; the message says which and why."""


@dataclass(frozen=True)
class CertificateFiles:
    """Where certificate chain, private key and, for mutual TLS, the certificates that sign clients' lie (all PEM)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return (self.certificate, self.key) + ((self.client_ca,) if self.client_ca else ())


class Certificates:
    """The context for new connections, of this protocol. Raises InvalidCertificates when the files cannot be used."""

    def __init__(self, files: CertificateFiles, protocol: str = "h2") -> None:
        self._files = files
        self._protocol = protocol
        self._seen = _seen(files)
        self.context = _context(files, protocol)
        self.expires = expiry(files.certificate)

    def refresh(self) -> bool:
        """Whether the files changed and are used from now on. Raises InvalidCertificates; the old ones then stay."""
        seen = _seen(self._files)
        if seen == self._seen:
            return False
        self.context, self.expires = _context(self._files, self._protocol), expiry(self._files.certificate)
        self._seen = seen
        return True

    def load_into(self, context: ssl.SSLContext) -> None:
        """New connections of a context made before use these files, too.

        Authorities that are gone from the files go on being trusted by it.
        """
        context.load_cert_chain(self._files.certificate, self._files.key)
        if self._files.client_ca:
            context.load_verify_locations(self._files.client_ca)

    def days_left(self, now: datetime) -> float:
        """Days until the certificate expires; negative afterwards."""
        return (self.expires - now).total_seconds() / 86_400


def expiry(certificate: Path) -> datetime:
    """When the first certificate of the file expires."""
    try:
        pem = certificate.read_text()
        begin, end = pem.index(ssl.PEM_HEADER), pem.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
        return _not_after(ssl.PEM_cert_to_DER_cert(pem[begin:end]))
    except (OSError, ValueError, IndexError) as error:
        raise InvalidCertificates(f"{certificate} holds no certificate: {error}") from error


def _context(files: CertificateFiles, protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([protocol])
    try:
        context.load_cert_chain(files.certificate, files.key)
        if files.client_ca:
            context.load_verify_locations(files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        # ssl.SSLError is an OSError as well.
        named = ", ".join(str(path) for path in files.paths())
        raise InvalidCertificates(f"{named} cannot be used: {error}") from error
    return context


def _seen(files: CertificateFiles) -> tuple[tuple[int, int, int], ...]:
    """What tells one state of the files from another; a link that is switched shows by its inode."""
    try:
        stats = [path.stat() for path in files.paths()]
    except OSError as error:
        raise InvalidCertificates(str(error)) from error
    return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)


def _not_after(der: bytes) -> datetime:
    """Of an X.509 certificate: serial, signature and issuer are skipped, then comes `validity` (RFC 5280, 4.1)."""
    at, _ = _inside(der, _inside(der, 0)[0])
    if der[at] == _EXPLICIT_0:
        at = _after(der, at)
    for _ in range(3):
        at = _after(der, at)
    begin, end = _inside(der, _after(der, _inside(der, at)[0]))
    kind = der[_after(der, _inside(der, at)[0])]
    # Two-digit years are of 1950 to 2049, which strptime takes for 1969 to 2068: the same for any that still matters.
    layout = "%y%m%d%H%M%SZ" if kind == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(der[begin:end].decode("ascii"), layout).replace(tzinfo=UTC)


def _inside(der: bytes, at: int) -> tuple[int, int]:
    """Begin and end of the value of the element there."""
    size, begin = der[at + 1], at + 2
    if size & _LONG_FORM:
        digits = size & ~_LONG_FORM
        size, begin = int.from_bytes(der[begin : begin + digits], "big"), begin + digits
    return begin, begin + size


def _after(der: bytes, at: int) -> int:
    return _inside(der, at)[1]
