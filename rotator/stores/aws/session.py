"""From the configuration to a client of AWS: the one place that makes boto3 sessions.

Clients are safe for threads, sessions are not: each client is made under a lock from a session of its own. botocore's own retries are off
(the engine retries, and knows what may be repeated), and its debug log, which shows request bodies, is never switched on.
"""

from __future__ import annotations

import os
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, CredentialProvider, CredentialResolver, DeferredRefreshableCredentials

from rotator import __version__
from rotator.stores.aws.config import AssumeRole, AwsStoreConfig

_CONNECT_WITHIN = 3.0
_CONNECTIONS = 32


def build_client(config: AwsStoreConfig, session: Any = None) -> Any:
    """A client of Secrets Manager, with the credentials of the default chain or of a botocore session that is handed in.

    May ask the machine's metadata service for credentials. Raises botocore's errors.
    """
    options = _build_options(config)
    session = _prepare(session or botocore.session.Session(profile=config.profile), config, options)
    if config.assume_role is not None:
        # A session of its own: one that was asked for its credentials keeps them.
        provider = _AssumedRole(session, config.assume_role, options)
        session = _prepare(botocore.session.Session(profile=config.profile), config, options)
        session.register_component("credential_provider", CredentialResolver([provider]))
    return boto3.session.Session(botocore_session=session).client("secretsmanager", endpoint_url=config.endpoint_url, config=options)


def _prepare(session: Any, config: AwsStoreConfig, options: Any) -> Any:
    """Everybody who makes clients of it, such as the providers of the default chain, has our time limits and our region."""
    session.set_default_client_config(options)
    # Of the environment, botocore itself knows AWS_DEFAULT_REGION only.
    region = config.region or os.environ.get("AWS_REGION")
    if region:
        session.set_config_variable("region", region)
    return session


def _build_options(config: AwsStoreConfig) -> Any:
    limit = config.timeout.total_seconds()
    return Config(
        connect_timeout=min(_CONNECT_WITHIN, limit),
        read_timeout=limit,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=_CONNECTIONS,
        user_agent_extra=f"rotator/{__version__}",
    )


class _AssumedRole(CredentialProvider):  # type: ignore[misc]  # botocore is untyped
    """Credentials of a role, taken with those of the default chain and renewed before they end."""

    METHOD = "rotator-assume-role"

    def __init__(self, session: Any, role: AssumeRole, options: Any) -> None:
        super().__init__()
        self._source = session.get_credentials()
        self._make = session.create_client
        self._role = role
        self._options = options

    def load(self) -> Any:
        """As botocore asks it: credentials that ask STS at first use, or None where there is nothing to ask with."""
        if self._source is None:
            return None
        extra = {"RoleSessionName": self._role.session_name}
        if self._role.external_id is not None:
            extra["ExternalId"] = self._role.external_id
        fetcher = AssumeRoleCredentialFetcher(self._create, self._source, self._role.arn, extra_args=extra)
        return DeferredRefreshableCredentials(refresh_using=fetcher.fetch_credentials, method=self.METHOD)

    def _create(self, service: str, **given: Any) -> Any:
        return self._make(service, **{**given, "endpoint_url": self._role.endpoint_url, "config": self._options})
