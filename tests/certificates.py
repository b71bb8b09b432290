"""Certificates for a test's servers, signed by a CA that nobody knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trustme


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM: a server's certificate with its chain, its key, and the CA's certificate."""

    chain: Path
    key: Path
    ca: Path

    @classmethod
    def made(cls, directory: Path, *names: str) -> Self:
        """Make one for a server of these names or addresses."""
        made = cls(directory / "chain.pem", directory / "key.pem", directory / "ca.pem")
        authority = trustme.CA()
        certificate = authority.issue_cert(*names)
        # The CA's certificate goes along, as Heroku's servers send it: to a client that is a self-signed one.
        made.chain.write_bytes(
            b"".join(blob.bytes() for blob in certificate.cert_chain_pems) + authority.cert_pem.bytes()
        )
        made.key.write_bytes(certificate.private_key_pem.bytes())
        authority.cert_pem.write_to_path(made.ca)
        return made
