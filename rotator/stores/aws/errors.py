"""AWS's errors in our words: which class, and a sentence that says what to do.

No text of AWS's gets through, except names that are checked for their shape: an action, an ARN, an error's code. botocore's own messages
are not chained: one of them may quote an answer's body.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from rotator.domain.errors import AnswerLost, Conflict, Misconfigured, RateLimited, Refused, RotatorError, Unreachable
from rotator.domain.reasons import Reason

__all__ = ["Absent", "Denied", "Exists", "Invalid", "Misplaced", "explain"]

_PAUSE = timedelta(seconds=2)
"""After a throttled call: AWS names no time."""
_QUOTA_PAUSE = timedelta(minutes=10)
_TOO_MANY = 429
_SERVER_FAULT = 500
_ACTION = re.compile(r"\b([a-z0-9-]{2,40}:[A-Z][A-Za-z]{2,60})\b")
_ARN = re.compile(r"\b(arn:[a-z-]{3,20}:[a-z0-9-]{2,40}:[a-z0-9-]*:[0-9]*:[A-Za-z0-9/_+=.@:-]{1,600})")
_CODE = re.compile(r"[A-Za-z.]{3,64}")

_THROTTLED = {"ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown"}
_DENIED = {"AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "AuthorizationError"}
_NEVER_KMS = {"ResourceExistsException", "LimitExceededException", *_THROTTLED}
_SKEWED = {"RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture"}
_UNSIGNED = {"SignatureDoesNotMatch", "InvalidSignatureException", "IncompleteSignature"}
_EXPIRED = {"ExpiredTokenException", "ExpiredToken"}
_UNKNOWN_WHO = {"UnrecognizedClientException", "InvalidClientTokenId", "InvalidIdentityToken", "MissingAuthenticationToken"}


class Absent(Refused):
    """The secret, the version or the label is not there."""


class Exists(Conflict):
    """The secret is there already, or the version is, with another content."""


class Invalid(Refused):
    """A parameter is not taken; of a label's move: the label does not stand where the call says."""


class Misplaced(Conflict):
    """A label does not stand where the call says: the move was refused as a whole."""


class Denied(Refused):
    """A permission is missing. `action` is its name, where AWS said it."""

    def __init__(self, message: str, action: str) -> None:
        super().__init__(message)
        self.action = action


def explain(error: Exception, operation: str, name: str, *, writes: bool) -> RotatorError:
    """The error to raise in place of a botocore error.

    `name` is the secret's, empty where it is about none; `writes`: the call may have had an effect.
    """
    doing = f"{operation} of AWS secret {name}" if name else f"{operation} at AWS"
    if isinstance(error, aws.ClientError):
        return _explain_answer(error, doing, name, writes=writes)
    if isinstance(error, aws.NoRegionError):
        return Misconfigured("AWS: no region: set `region` of the store, or AWS_REGION")
    if isinstance(error, aws.ProfileNotFound):
        return Misconfigured("AWS: the `profile` of the store stands in none of AWS's shared configuration files")
    if isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError):
        return Misconfigured(
            f"{doing}: no AWS credentials were found: give the workload a role (IRSA, pod identity, instance), or set a `profile`"
        )
    if isinstance(error, aws.CredentialRetrievalError | aws.SSOError | aws.UnauthorizedSSOTokenError | aws.TokenRetrievalError):
        return Misconfigured(f"{doing}: AWS credentials could not be had or renewed: sign in anew, or look at the role and its token file")
    if isinstance(error, aws.ParamValidationError):
        return Misconfigured(f"{doing}: AWS does not take such a request: correct the secret's name (`path`) or the store's settings")
    if isinstance(error, aws.SSLError):
        return Unreachable(f"{doing}: the TLS certificate of AWS's endpoint is not trusted: set AWS_CA_BUNDLE, or correct `endpoint_url`")
    if isinstance(error, aws.EndpointConnectionError | aws.ConnectTimeoutError | aws.ProxyConnectionError | aws.InvalidProxiesConfigError):
        return Unreachable(f"{doing}: AWS's endpoint cannot be reached: look at the network, the proxy, `region` and `endpoint_url`")
    if isinstance(error, ResponseParserError):
        text = f"{doing}: the answer is not AWS's: is there a proxy, or another service at `endpoint_url`?"
        return AnswerLost(f"{text} It may have been applied") if writes else Unreachable(text)
    if not isinstance(error, aws.BotoCoreError):
        why = f" ({error.strerror}: {error.filename})" if isinstance(error, OSError) and error.strerror and error.filename else ""
        return Misconfigured(
            f"{doing}: AWS credentials could not be had{why}: look at the files and programs that they come from, such as "
            "AWS_WEB_IDENTITY_TOKEN_FILE and `credential_process`"
        )
    if writes:
        return AnswerLost(f"{doing}: no whole answer came: it may have been applied")
    return Unreachable(f"{doing}: no whole answer came")


def _explain_answer(error: Any, doing: str, name: str, *, writes: bool) -> RotatorError:
    told = error.response.get("Error", {})
    code, message = str(told.get("Code", "")), str(told.get("Message", told.get("message", "")))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if error.operation_name in ("AssumeRole", "AssumeRoleWithWebIdentity"):
        doing, writes = f"taking the AWS role ({error.operation_name})", False
    about_kms = _is_about_kms(code, message.replace(name, "") if name else message)
    if code in _DENIED or about_kms:
        return _explain_denial(code, message, doing, about_kms=about_kms)
    judge = _JUDGES.get(code)
    if judge is not None:
        return judge(doing, name, message)
    if code in _THROTTLED or status == _TOO_MANY:
        return RateLimited(f"{doing}: AWS throttles these calls: asked again later, more slowly", after=_PAUSE)
    if code in _SKEWED or (code in _UNSIGNED and re.search(r"expired|earlier|later|not yet", message, re.IGNORECASE)):
        return Refused(
            f"{doing}: AWS refuses the time of the request: correct the clock of this machine (NTP)", reason=Reason.CLOCK_UNTRUSTED
        )
    if code in _UNSIGNED:
        return Refused(f"{doing}: AWS refuses the signature: the secret access key is wrong, or the clock is off")
    if code in _EXPIRED:
        return Refused(f"{doing}: the AWS session has expired: sign in anew, or use a role, which is renewed by itself")
    if code in _UNKNOWN_WHO:
        return Refused(f"{doing}: AWS does not know these credentials: they were removed, or belong to another partition or endpoint")
    if status >= _SERVER_FAULT or code == "InternalServiceError":
        return AnswerLost(f"{doing}: AWS failed: it may have been applied") if writes else Unreachable(f"{doing}: AWS failed")
    shown = code if _CODE.fullmatch(code) else "an unknown error"
    return Refused(f"{doing}: AWS refuses it ({shown}): see CloudTrail for this call")


def _is_about_kms(code: str, message: str) -> bool:
    """By AWS's own words: secrets, roles and users may have kms in their names."""
    words = _ARN.sub("", message)
    return code.startswith("KMS") or (code not in _NEVER_KMS and re.search(r"\bkms:[A-Z]|\bKMS\b", words) is not None)


def _explain_denial(code: str, message: str, doing: str, *, about_kms: bool) -> RotatorError:
    if about_kms:
        needed = _find(_ACTION, message) or "kms:Decrypt and kms:GenerateDataKey"
        key = _find(_ARN, message.split(" on resource", 1)[-1]) or "the secret's KMS key"
        if code in _DENIED:
            return Denied(f"{doing}: the KMS key is not allowed: allow {needed} on {key}, in its key policy too", needed)
        return Refused(f"{doing}: the KMS key cannot be used: it is disabled, deleted or of the wrong kind: enable {key}")
    action = _find(_ACTION, message)
    where = _find(_ARN, message.split(" on resource", 1)[-1])
    needed = action or f"secretsmanager:{doing.split(' ', 1)[0]}"
    return Denied(
        f"{doing}: access denied: allow {needed}{f' on {where}' if where else ''} (`rotator check --live` prints the policy)", needed
    )


def _find(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return found.group(1) if found else None


def _judge_request(doing: str, name: str, message: str) -> RotatorError:
    if "delet" in message.lower():
        return Refused(
            f"{doing}: the secret is scheduled for deletion: `aws secretsmanager restore-secret --secret-id {name}`, or name another path"
        )
    return Refused(f"{doing}: the secret is in a state that does not allow it: look at it in the AWS console")


_JUDGES: dict[str, Callable[[str, str, str], RotatorError]] = {
    "ResourceNotFoundException": lambda doing, _name, _message: Absent(f"{doing}: it is not there"),
    "ResourceExistsException": lambda doing, _name, _message: Exists(f"{doing}: someone else was faster: read it again"),
    "InvalidRequestException": _judge_request,
    "InvalidParameterException": lambda doing, _name, _message: Invalid(
        f"{doing}: AWS does not take a parameter: correct `kms_key_id`, `tags` or the path"
    ),
    "LimitExceededException": lambda doing, _name, _message: RateLimited(
        f"{doing}: a quota of Secrets Manager is used up: a secret has room for about 100 versions of one day", after=_QUOTA_PAUSE
    ),
    "DecryptionFailure": lambda doing, _name, _message: Refused(
        f"{doing}: AWS cannot decrypt the secret: its KMS key is disabled, deleted or not allowed: enable it and allow kms:Decrypt"
    ),
    "EncryptionFailure": lambda doing, _name, _message: Refused(
        f"{doing}: AWS cannot encrypt: the KMS key is disabled, deleted or not allowed: enable it and allow kms:GenerateDataKey"
    ),
}
