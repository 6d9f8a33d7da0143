"""What IAM must allow: the least policy, and what of it is missing, asked without changing anything."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from rotator.domain.errors import Retry, RotatorError
from rotator.stores.aws.api import Api
from rotator.stores.aws.config import AwsStoreConfig
from rotator.stores.aws.errors import Denied, Misplaced

__all__ = ["build_policy", "find_missing"]

_READS = ("DescribeSecret", "GetSecretValue")
_WRITES = ("PutSecretValue", "UpdateSecretVersionStage")
_CREATES = ("CreateSecret", "TagResource")
_PARTITIONS = {"cn": "aws-cn", "us-gov": "aws-us-gov", "us-iso": "aws-iso", "us-isob": "aws-iso-b"}


def find_missing(api: Api, name: str, record: str, *, writes: bool) -> tuple[str, ...]:
    """The actions that AWS denies, in a phrase each. Raises `Unreachable`, `RateLimited`."""
    questions: list[Callable[[], object]] = [
        lambda: api.describe(name),
        lambda: api.find_value(name),
        lambda: api.find_value(record),
        lambda: next(iter(api.gather_labels([name])), None),
    ]
    if writes:
        questions += [partial(_ask_to_move, api, one) for one in (name, record)]
    missing: dict[str, None] = {}
    for question in questions:
        try:
            question()
        except Denied as denied:
            missing[str(denied)] = None
        except Retry:
            raise
        except RotatorError:
            continue  # allowed, and refused for another reason: `check` tells
    return tuple(missing)


def _ask_to_move(api: Api, name: str) -> None:
    """Take a label that nobody uses from a version that nobody has: AWS refuses it, for want of the permission or of the version."""
    try:
        api.swap(name, "ROTATOR-ACCESS-CHECK", str(uuid.uuid4()), None)
    except Misplaced:
        return


def build_policy(config: AwsStoreConfig, region: str, arn: str, name: str, record: str, *, writes: bool) -> str:
    """An IAM policy as JSON: the least that a credential at this place needs. `arn` is the secret's, where it is known."""
    head = _build_head(region, arn)
    # AWS adds a hyphen and six characters to each name.
    place, beside = f"{head}:secret:{name}-??????", f"{head}:secret:{record}-??????"
    statements = [_allow("Read", _READS, [place, beside])]
    if writes:
        statements.append(_allow("Write", _WRITES, [place, beside]))
        statements.append(_allow("Create", _CREATES if config.tags else _CREATES[:1], [place, beside] if config.create else [beside]))
    statements.append(_allow("Watch", ("ListSecrets",), ["*"]))
    if config.kms_key_id is not None:
        actions = ["kms:Decrypt", "kms:GenerateDataKey"] if writes else ["kms:Decrypt"]
        key = config.kms_key_id if config.kms_key_id.startswith("arn:") else f"{head.replace(':secretsmanager:', ':kms:')}:key/*"
        statements.append({"Sid": "UseKey", "Effect": "Allow", "Action": actions, "Resource": [key]})
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)


def _build_head(region: str, arn: str) -> str:
    if arn.count(":") > 5:  # arn:partition:service:region:account:secret:name
        return ":".join(arn.split(":")[:5])
    partition = next((name for start, name in _PARTITIONS.items() if region.startswith(f"{start}-")), "aws")
    return f"arn:{partition}:secretsmanager:{region}:*"


def _allow(sid: str, actions: tuple[str, ...], resources: list[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": [f"secretsmanager:{action}" for action in actions], "Resource": resources}
