"""Who may come in over HTTP: judges each request by what it shows, before anything of it is read (decision 16)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hub.rules.audit import Entry, Outcome, by_token
from hub.rules.callers import Caller, is_enough
from hub.rules.credentials import Basic, Bearer, read_credentials
from hub.rules.denials import CROSS_SITE, MISNAMED, Denial, forbidden, missing, not_enough, too_many, wrong
from hub.rules.failures import Failures
from hub.rules.origins import SAFE, Told, is_cross_site, is_misnamed
from hub.rules.roles import Needs

if TYPE_CHECKING:
    from hub.audit import Audit
    from hub.rules.access import Account
    from hub.settings import HubSettings
    from hub.tokens import Tokens

_METHODS = SAFE | {"POST", "PUT", "PATCH", "DELETE"}


class Accounts(Protocol):
    """Who knows the accounts of the broker."""

    def verify(self, username: str, password: str) -> Account | None:
        """Return the account, if it may be used and the password is its own."""


class Asked(NamedTuple):
    """A request, as far as it is judged by."""

    method: str
    address: str | None = None
    authorization: bytes | None = None
    told: Told = Told()


class Access:
    """Judges requests.

    Args:
        settings: Whether tokens are required, and whether anybody may come in where there are none.
        tokens: Knows those of the API.
        accounts: Knows those of the broker.
        audit: Is told of each refusal.

    """

    def __init__(self, settings: HubSettings, tokens: Tokens, accounts: Accounts, audit: Audit) -> None:
        self._settings = settings
        self._tokens = tokens
        self._accounts = accounts
        self._audit = audit
        self._failures = Failures()

    def judge(self, asked: Asked, route: str | None, needs: Needs) -> Caller | Denial:
        """Return who asks, or why they are refused; `route` and `needs` are as `needs_of` has them for the request."""
        judged = self._judge(asked, needs)
        if isinstance(judged, Denial):
            method = asked.method if asked.method in _METHODS else "another method"
            self.note(judged, f"{method} {route or 'elsewhere'}", needs)
        return judged

    def note(self, denial: Denial, target: str, needs: Needs) -> None:
        """Have a refusal in the audit trail."""
        action = "link.refused" if needs is Needs.ACCOUNT else "request.refused"
        who, role, _, address = denial.caller
        self._audit.refused(Entry(who, action, target, Outcome.REFUSED, role, address, denial.reason))

    def failed(self, address: str | None) -> int | None:
        """Count credentials that did not hold; return after how many seconds others are looked at, if not at once."""
        return self._failures.count(address, time.monotonic())

    def _judge(self, asked: Asked, needs: Needs) -> Caller | Denial:
        anybody = Caller(address=asked.address)
        if is_cross_site(asked.method, asked.told):
            return forbidden(anybody, CROSS_SITE)
        if needs is Needs.NOTHING:
            return anybody
        if self._is_closed(needs):
            return self._admit(asked, needs, anybody)
        if not self._settings.allow_anonymous and is_misnamed(asked.told):
            return forbidden(anybody, MISNAMED)
        return anybody

    def _is_closed(self, needs: Needs) -> bool:
        """Tell whether one must show something for what needs that.

        What is an administrator's is so without any token too: else whoever came first could lock all others out.
        """
        if self._tokens.were_made or self._settings.require_tokens or needs is Needs.ADMIN:
            return True
        return needs is Needs.ACCOUNT and self._settings.manage_accounts

    def _admit(self, asked: Asked, needs: Needs, anybody: Caller) -> Caller | Denial:
        match read_credentials(asked.authorization):
            case None:
                return missing(anybody, needs)
            case Bearer(text):
                caller, reason = self._by_token(text, anybody)
            case Basic(username, password):
                caller, reason = self._by_account(username, password, anybody)
            case unreadable:
                caller, reason = anybody, unreadable.reason
        if reason is not None:
            wait = self.failed(asked.address)
            return wrong(caller, needs, reason) if wait is None else too_many(caller, reason, wait)
        return caller if is_enough(caller, needs) else not_enough(caller, needs)

    def _by_token(self, text: str, anybody: Caller) -> tuple[Caller, str | None]:
        """Return whose token it is, and why it does not hold."""
        token, flaw = self._tokens.verify(text)
        if token is None:
            return anybody, f"the token is {flaw}"
        caller = anybody._replace(who=by_token(token.name))
        if flaw is not None:
            return caller, f"the token {token.name} is {flaw}"
        return caller._replace(role=token.role), None

    def _by_account(self, username: str, password: str, anybody: Caller) -> tuple[Caller, str | None]:
        account = self._accounts.verify(username, password)
        if account is None:
            return anybody, "the user name and the password are of no worker that is enrolled here"
        return anybody._replace(who=f"{account.kind}:{account.name}", account=account), None
