"""config.example.yaml is what the code prints, and every setting says what it means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rotator.settings import Settings, example
from rotator.settings.explaining import find_models

ROOT = Path(__file__).parents[2]


def test_the_example_is_up_to_date() -> None:
    shown = (ROOT / "config.example.yaml").read_text(encoding="utf-8")
    assert shown == example(), "run: rotator config example > config.example.yaml"


def gather_models(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    if model in seen:
        return
    seen.add(model)
    yield model
    for name, field in model.model_fields.items():
        place: tuple[Any, ...] = (field.alias or name,)
        for path in (place, (*place, 0)):
            for inner in find_models(model, path):
                yield from gather_models(inner, seen)


def test_every_setting_says_what_it_means() -> None:
    models = list(gather_models(Settings, set()))
    silent = [
        f"{one.__module__}.{one.__name__}.{name}" for one in models for name, field in one.model_fields.items() if not field.description
    ]
    assert len(models) > 15
    assert silent == []
