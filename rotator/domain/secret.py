"""The only home of key material.

A `Secret` cannot be printed, formatted, serialised, pickled, compared with `==` or hashed by accident; `reveal()` is the single way
out, and the repository's tests count its callers. Its `str` and `repr` give the key id.
"""

from __future__ import annotations

import hmac
from typing import Never, final

from rotator.domain.errors import MalformedKey
from rotator.domain.keys import KeyId, parse_key

__all__ = ["Secret"]


@final
class Secret:
    """One Millimetric key with its secret part. Raises `MalformedKey` for a string of another shape."""

    __slots__ = ("__value", "key_id")

    key_id: KeyId

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise MalformedKey("a key must be text")
        object.__setattr__(self, "key_id", parse_key(value))
        object.__setattr__(self, "_Secret__value", value)

    def reveal(self) -> str:
        """The key itself. Each call site is a place where key material leaves: keep them few."""
        return self.__value  # type: ignore[attr-defined, no-any-return]

    def same_as(self, other: Secret) -> bool:
        """Whether both are the same key, compared in constant time (L24)."""
        return hmac.compare_digest(self.reveal().encode(), other.reveal().encode())

    def __repr__(self) -> str:
        return f"<Secret {self.key_id}>"

    def __str__(self) -> str:
        return str(self.key_id)

    def __format__(self, spec: str) -> str:
        return format(str(self.key_id), spec)

    def __setattr__(self, name: str, value: object) -> Never:
        raise AttributeError("a Secret cannot be changed")

    def __delattr__(self, name: str) -> Never:
        raise AttributeError("a Secret cannot be changed")

    def __eq__(self, other: object) -> bool:
        raise TypeError("compare secrets with Secret.same_as (constant time), or compare their key ids")

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a Secret cannot be pickled or copied")

    def __copy__(self) -> Never:
        raise TypeError("a Secret cannot be copied")

    def __deepcopy__(self, memo: object) -> Never:
        raise TypeError("a Secret cannot be copied")
