"""Tells when something speaks for a worker that has an account, from another site than the account's.

A worker's own account cannot: the broker sees to that. A site's own broker (an account of kind `bridge`) can publish in
the name of whatever worker it likes, below its site: it must not take over one of another site, its name and its tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.rules.audit import ANONYMOUS, Entry, Outcome

if TYPE_CHECKING:
    from broker.topics import WorkerTopic
    from hub.accounts import Accounts
    from hub.audit import Audit

SPOKEN_FOR = "a message at another site than that of the worker's account"


class Impostors:
    """Knows whom not to listen to.

    Args:
        accounts: Knows of which site each worker is.
        audit: Is told of each refusal.
        is_managed: Whether the broker follows our accounts. If not, who may publish what is not ours to say.

    """

    def __init__(self, accounts: Accounts, audit: Audit, *, is_managed: bool) -> None:
        self._accounts = accounts
        self._audit = audit
        self._is_managed = is_managed

    def is_one(self, address: WorkerTopic, *, retained: bool) -> bool:
        """Tell whether what came on a worker's own topic is not to be heard.

        What is `retained` is refused without a word: a worker that has moved leaves it behind.
        """
        site = self._accounts.site_of(address.worker) if self._is_managed else None
        if site is None or site == address.site:
            return False
        if not retained:
            target = f"{address.worker} at {address.site}"
            self._audit.refused(Entry(ANONYMOUS, "link.refused", target, Outcome.REFUSED, detail=SPOKEN_FOR))
        return True
