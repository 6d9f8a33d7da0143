"""The configuration: models, the file that fills them, the rules across them, and what the domain gets of it.

No module here opens a store, an issuer or a target; importing this package reads neither the environment nor a file.
"""

from __future__ import annotations

from rotator.settings.conversion import policy_of, schedule_of, timing_of
from rotator.settings.loading import Loaded, find_config, load_settings
from rotator.settings.models import Settings
from rotator.settings.problems import ConfigurationProblems, Problem
from rotator.settings.rendering import config_schema, example, show
from rotator.settings.state import state_dir

__all__ = [
    "ConfigurationProblems",
    "Loaded",
    "Problem",
    "Settings",
    "config_schema",
    "example",
    "find_config",
    "load_settings",
    "policy_of",
    "schedule_of",
    "show",
    "state_dir",
    "timing_of",
]
