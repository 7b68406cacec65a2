"""Who asks: what a request's credentials come to, and whether that is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hub.rules.access import Kind
from hub.rules.audit import ANONYMOUS, Entry
from hub.rules.roles import Needs

if TYPE_CHECKING:
    from hub.rules.access import Account
    from hub.rules.roles import Role


class Caller(NamedTuple):
    """Who asks.

    Attributes:
        who: As the audit trail names them.
        role: What their token allows; None without one.
        account: Their account of the broker, where they showed that: workers do, on `/api/link`.
        address: Whence, as the hub sees it.

    """

    who: str = ANONYMOUS
    role: Role | None = None
    account: Account | None = None
    address: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether they have shown anything that holds."""
        return self.role is not None or self.account is not None

    def did(self, action: str, target: str | None = None, detail: str | None = None) -> Entry:
        """Return the line of the audit trail that tells what they did."""
        return Entry(self.who, action, target, role=self.role, address=self.address, detail=detail)


ANYBODY = Caller()


def is_enough(caller: Caller, needs: Needs) -> bool:
    """Tell whether a caller may do what `needs` that."""
    if needs is Needs.NOTHING:
        return True
    if needs is Needs.ACCOUNT:
        return caller.account is not None and caller.account.kind is Kind.WORKER
    return caller.role is not None and needs.role is not None and caller.role.rank >= needs.role.rank


def lacking(caller: Caller, needs: Needs) -> str:
    """Say to somebody who is known what else it takes."""
    if needs is Needs.ACCOUNT:
        return f"{_described(caller)}: this is for workers, with the account that `edge-agent enrol` gave them"
    return f"{_described(caller)}: this takes a token with the role {_at_least(needs)}"


def _described(caller: Caller) -> str:
    if caller.role is not None:
        return f"you are {caller.who}, whose role is {caller.role}"
    return f"you are {caller.who}, and an account of the broker is for the broker and for /api/link"


def _at_least(needs: Needs) -> str:
    return f"{needs.role}" if needs is Needs.ADMIN else f"{needs.role} or more"
