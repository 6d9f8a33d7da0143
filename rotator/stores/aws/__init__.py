"""The AWS Secrets Manager store: an ordinary secret for consumers, and a record beside it.

`config` is what the user writes, `session` makes the client, `errors` tells AWS's errors in our words, `api` is one call each, `values`
finds the key in a secret's value, `document` is the record's JSON, `places` judges labels, `looks` is both secrets at one moment,
`doubts` tells stale answers from news, `access` is the IAM policy, `store` has the port's verbs. How it is kept, and why that is a
compare-and-set: `docs/aws.md`. Importing this package does not import boto3.
"""

from __future__ import annotations

from rotator.stores.aws.config import AwsStoreConfig

__all__ = ["AwsStoreConfig"]
