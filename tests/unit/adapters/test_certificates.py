"""Certificates are read again when their files change, and bad ones never replace good ones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from flywheel.adapters.certificates import CertificateFiles, Certificates, InvalidCertificates, expiry
from tests.certificates import Authority


@pytest.mark.parametrize("year", [2030, 2049, 2050, 2120])
def test_expiry_is_what_the_certificate_says(tmp_path: Path, year: int) -> None:
    expires = datetime(year, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert expiry(Authority(tmp_path).sign("server", expires).certificate) == expires


def test_changed_files_are_used_and_bad_ones_are_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    signed = authority.sign("server", datetime(2030, 1, 1, tzinfo=UTC))
    certificates = Certificates(CertificateFiles(signed.certificate, signed.key, authority.certificate))
    first = certificates.context
    assert not certificates.refresh()
    authority.sign("server", datetime(2031, 1, 1, tzinfo=UTC))
    assert certificates.refresh()
    second = certificates.context
    assert second is not first
    assert certificates.days_left(datetime(2030, 12, 31, tzinfo=UTC)) == 1
    for broken in (signed.certificate, signed.key, authority.certificate):
        whole = broken.read_bytes()
        broken.write_text("not a certificate")
        with pytest.raises(InvalidCertificates, match=broken.name):
            certificates.refresh()
        broken.unlink()
        with pytest.raises(InvalidCertificates, match=broken.name):
            certificates.refresh()
        assert certificates.context is second
        broken.write_bytes(whole)
    assert certificates.refresh()


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.sign("one"), authority.sign("other")
    with pytest.raises(InvalidCertificates):
        Certificates(CertificateFiles(one.certificate, other.key))
