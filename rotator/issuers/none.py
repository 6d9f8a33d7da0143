"""The issuer of credentials that say `issuer: none`: keys come and go by other hands, and this one can do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Never

from rotator.domain.errors import Refused
from rotator.domain.keys import KeyId
from rotator.domain.ports import Abilities, Issued, ListedKey, MintOrder
from rotator.domain.reasons import Reason

__all__ = ["NoIssuer"]


class NoIssuer:
    """Can do nothing, and says so."""

    @property
    def abilities(self) -> Abilities:
        return Abilities(mint=False, list=False, revoke=False)

    def mint(self, order: MintOrder) -> Issued:  # noqa: ARG002
        self._refuse("mint a key")

    def list_labelled(self, prefix: str, credential: str = "") -> Sequence[ListedKey]:  # noqa: ARG002
        self._refuse("list keys")

    def revoke(self, key_id: KeyId, reference: str | None) -> None:  # noqa: ARG002
        self._refuse(f"revoke {key_id}")

    def settle(self, label: str, credential: str = "") -> None:
        """Nothing was kept."""

    def check(self, order: MintOrder) -> None:  # noqa: ARG002
        self._refuse("mint a key")

    def _refuse(self, what: str) -> Never:
        raise Refused(f"this credential has `issuer: none`, which cannot {what}: name an issuer, or do it by hand", reason=Reason.NO_ISSUER)
