"""How a program shows who it is, and whom it trusts: at the broker, and at the hub."""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """How a client shows who it is, and whom it trusts.

    Attributes:
        username: The account of the main connection, and of HTTP.
        password: The password of both.
        intake_username: The account of a worker's second connection; None is the same one.
        tls_ca: A file with the authorities that are trusted.
        tls_ca_text: The same as PEM text, where it did not come by a file.
        tls_certificate: A file with the certificate that is shown.
        tls_key: A file with its key.
        prefix: What the variables begin with that say all this: `WORKER_`.
        remedy: How one gets an account that the other end knows.

    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    intake_username: str | None = None
    tls_ca: str | None = None
    tls_ca_text: str | None = field(default=None, repr=False)
    tls_certificate: str | None = None
    tls_key: str | None = None
    prefix: str = ""
    remedy: str = ""

    @property
    def authority(self) -> str | None:
        """What people call the authority that is trusted; None is the system's."""
        return self.tls_ca or ("the authority of its enrolment" if self.tls_ca_text else None)

    @property
    def basic(self) -> dict[str, str]:
        """The header by which HTTP's Basic scheme shows the account (RFC 7617); none without a password."""
        if self.username is None or self.password is None:
            return {}
        shown = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return {"Authorization": f"Basic {shown}"}


def tls_context(account: Account, *, and_system: bool) -> ssl.SSLContext:
    """Return what a connection is made with that trusts the account's authority; without one, the system's.

    Args:
        account: Whom it trusts, and what it shows.
        and_system: Trust the system's authorities beside its own.

    Raises:
        OSError: If a file cannot be read, or is no certificate; the text names it.

    """
    has_own = bool(account.tls_ca or account.tls_ca_text)
    try:
        if has_own and not and_system:
            context = ssl.create_default_context(cafile=account.tls_ca, cadata=account.tls_ca_text)
        else:
            context = ssl.create_default_context()
            if has_own:
                context.load_verify_locations(cafile=account.tls_ca, cadata=account.tls_ca_text)
        if account.tls_certificate:
            context.load_cert_chain(account.tls_certificate, account.tls_key)
    except OSError as error:  # as are TLS's own
        named = ", ".join(filter(None, (account.authority, account.tls_certificate)))
        msg = f"TLS with {named}: {error}"
        raise OSError(msg) from error
    return context
