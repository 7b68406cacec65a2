"""The API's certificate: read when the hub starts, and again when it is told that there is a new one (SIGHUP)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from broker.errors import SettingsError
from broker.log import get_logger
from broker.problems import Problem, shown

if TYPE_CHECKING:
    from pathlib import Path

    from hub.settings import HubSettings

log = get_logger(__name__)


class ServerCertificate:
    """A certificate, its key, and the context that shows them to whoever connects.

    Raises:
        SettingsError: If they cannot be used.

    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self.context = self._read()

    @classmethod
    def of(cls, settings: HubSettings) -> ServerCertificate | None:
        """Return the one that the settings name, if they do. Raises `SettingsError`."""
        if settings.http_tls_certificate:
            return cls(settings.http_tls_certificate, settings.http_tls_key)
        if settings.http_tls_key:
            expected = "HUB_HTTP_TLS_CERTIFICATE beside it"
            raise SettingsError([Problem("HUB_HTTP_TLS_KEY", shown(str(settings.http_tls_key)), expected)])
        return None

    def renew(self) -> None:
        """Show from the next connection on what the files hold now; where that is of no use, go on as before."""
        try:
            self._read()  # on its own first: half of a pair would spoil the context in use
            self.context.load_cert_chain(self._certificate, self._key)
        except (SettingsError, OSError) as error:
            log.error("certificate_not_renewed", error=str(error))  # noqa: TRY400  the reason is in it
        else:
            log.info("certificate_renewed", certificate=str(self._certificate))

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # from TLS 1.2 on, as Python has it
        try:
            context.load_cert_chain(self._certificate, self._key)
        except OSError as error:  # ssl.SSLError is one
            expected = f"a certificate in PEM, and in {self._key or 'the same file'} the key to it ({error})"
            where = Problem("HUB_HTTP_TLS_CERTIFICATE", shown(str(self._certificate)), expected)
            raise SettingsError([where]) from None
        return context
