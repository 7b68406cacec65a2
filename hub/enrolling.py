"""Lets workers in: makes one-time tokens, and trades them for accounts of the broker (decision 15)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from broker.clock import wall_ms
from broker.errors import InvalidInput, SettingsError
from broker.log import get_logger
from broker.problems import Problem
from hub.errors import EnrolmentRefused
from hub.keys import new_token
from hub.rules.audit import Entry, Outcome
from hub.rules.enrolment import Ask, Enrolment, Refusal
from hub.rules.secrets import Prefix, fingerprint_of, password_of, read_token
from hub.store.granting import add_enrolment, revoke_account, revoke_enrolment, trade

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from hub.account_keeping import AccountKeeper
    from hub.accounts import Accounts
    from hub.audit import Audit
    from hub.rules.access import Account
    from hub.rules.callers import Caller
    from hub.settings import HubSettings
    from hub.store.ledger import Ledger
    from hub.watch import Watch

MINUTE_MS = 60_000

log = get_logger(__name__)


class Authority(NamedTuple):
    """The certificate authorities that workers are to trust: PEM, and how tokens name the first.

    That one must have signed what the hub shows: a worker that enrols trusts no other until it has its account.
    """

    pem: str
    fingerprint: str

    @classmethod
    def read(cls, path: Path) -> Authority:
        """Return what is in a file, and nothing of it but certificates. Raises `InvalidInput` where there is none."""
        from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415  without a CA: 11 MB less

        from hub.certificate_files import read_certificates  # noqa: PLC0415

        found = read_certificates(path)
        pem = b"".join(one.public_bytes(Encoding.PEM) for one in found).decode()
        return cls(pem, fingerprint_of(found[0].public_bytes(Encoding.DER)))


class Credentials(NamedTuple):
    """What a worker got for its token."""

    account: Account
    password: str


class Enrolling:
    """Makes and trades tokens.

    Args:
        ledger: Commits both.
        accounts: Knows the passwords.
        keeper: Tells when the broker has been told.
        watch: Has everybody take in what was committed.
        audit: Is told of refusals.
        reserved: Names that are the hub's own.
        authority: What workers are to trust, if there is something.

    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        accounts: Accounts,
        keeper: AccountKeeper,
        watch: Watch,
        audit: Audit,
        reserved: Collection[str],
        authority: Authority | None,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._keeper = keeper
        self._watch = watch
        self._audit = audit
        self._reserved = reserved
        self.authority = authority

    async def trade(self, text: str, worker: str, site: str | None, nonce: str, address: str | None) -> Credentials:
        """Trade a token for an account, or, where this worker has done so before, say the same again.

        Returns when the broker knows the account, or after a few seconds: a broker that is away hears of it later.

        Raises:
            EnrolmentRefused: If the token is not good, or not for this worker.

        """
        ask = Ask(read_token(text, Prefix.ENROLMENT), worker, site, nonce)
        work = partial(trade, ask=ask, reserved=self._reserved, now=wall_ms(), address=address)
        judged = await self._ledger.commit(work)
        if isinstance(judged, Refusal):
            token = ask.token.id if ask.token else "none"
            detail = f"{judged.reason} ({token})"
            self._audit.refused(
                Entry("anonymous", "enrol.refused", worker, Outcome.REFUSED, address=address, detail=detail)
            )
            log.warning("enrolment_refused", worker=worker, site=site, token=token, reason=judged.detail)
            raise EnrolmentRefused(judged)
        account = judged.account
        password = password_of(self._accounts.key(), account.name, account.generation)
        await self._watch.look()
        at_broker = await self._keeper.settled()
        log.info("enrolled", worker=account.name, site=account.site, again=not judged.is_new, at_broker=at_broker)
        return Credentials(account, password)

    async def make(self, site: str, worker: str | None, minutes: float, by: Caller) -> tuple[Enrolment, str]:
        """Make a token; return it and its text, which is nowhere else, after the commit.

        Raises:
            InvalidInput: If it is for a worker that cannot have the name.

        """
        one, text = new_enrolment(self.authority, site, worker, minutes)
        await self._ledger.commit(partial(add_enrolment, one=one, by=by, reserved=self._reserved))
        log.info("enrolment_created", token=one.id, site=site, worker=worker, by=by.who)
        return one, text

    async def revoke(self, token_id: str, by: Caller) -> Enrolment:
        """Let a token be traded no more. Raises `NotFound`."""
        return await self._ledger.commit(partial(revoke_enrolment, token_id=token_id, by=by, now=wall_ms()))

    async def revoke_account(self, name: str, by: Caller) -> Account:
        """Let an account do nothing any more; returns when the broker has thrown it off, or after a few seconds.

        Raises:
            NotFound: If no account of this name lives.

        """
        work = partial(revoke_account, name=name, by=by, now=wall_ms())
        account = await self._ledger.commit(work)
        log.info("account_revoked", account=name, by=by.who)
        await self._watch.look()
        await self._keeper.settled()
        return account


def new_enrolment(authority: Authority | None, site: str, worker: str | None, minutes: float) -> tuple[Enrolment, str]:
    """Return a new token as it is kept, and its text."""
    token, now = new_token(Prefix.ENROLMENT, authority.fingerprint if authority else None), wall_ms()
    return Enrolment(token.id, token.hash, site, worker, now, now + int(minutes * MINUTE_MS)), str(token)


def authority_of(settings: HubSettings) -> Authority | None:
    """Return what workers are to trust. Raises `SettingsError` where its file holds no certificate."""
    for variable, path in (("HUB_PUBLIC_CA", settings.public_ca), ("HUB_TLS_CA", settings.tls_ca)):
        if path is not None:
            try:
                return Authority.read(path)
            except InvalidInput as error:
                wrong = error.problems[0]
                raise SettingsError([Problem(variable, wrong.value, wrong.expected)]) from None
    return None


def reserved_names(settings: HubSettings) -> frozenset[str]:
    """Return the names that the hub itself has at the broker."""
    return frozenset(filter(None, (settings.username, settings.client_id)))
