"""`rotator` as in a pod, but for one thing: the folder of the service account is where ACCOUNT_FOLDER says."""

from __future__ import annotations

import os

from lightkube.config.kubeconfig import KubeConfig

from rotator.__main__ import main

if __name__ == "__main__":
    KubeConfig.from_service_account.__func__.__defaults__ = (os.environ["ACCOUNT_FOLDER"],)  # type: ignore[attr-defined]
    main()
