"""Recipes of any content are taken, or refused in words; none ends in a traceback."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from convnext.config import all_keys, as_dict, check_recipe, load_complete, load_recipe, override, to_toml
from convnext.errors import RecipeError
from convnext.recipe import Recipe

SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=8)
    | st.sampled_from(["auto", "rand-m9", "none", "imagenet", "bf16", "\x1b[2J", 0, 1, -1, 1e308, 2**63]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
KEYS = st.sampled_from(all_keys()) | st.sampled_from(
    ["train", "data", "model", "weights", "augment", "train.x", "x.y.z"]
)


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """`{"train.lr": 1}` as tables in tables."""
    raw: dict[str, Any] = {}
    for key, value in flat.items():
        inner, (*tables, name) = raw, key.split(".")
        for table in tables:
            if not isinstance(inner.get(table), dict):
                inner[table] = {}
            inner = inner[table]
        inner[name] = value
    return raw


def same(one: Any, other: Any) -> bool:
    """Equal, NaN with itself too, a tuple with a list."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return list(one) == list(other) if isinstance(one, list | tuple) else bool(one == other)


def outcome(make: Callable[[], Recipe]) -> tuple[Recipe | None, str]:
    """A recipe, or the words by which it was refused; anything else that is raised is a fault."""
    try:
        return make(), ""
    except RecipeError as error:
        return None, str(error)


@seed(20)
@settings(max_examples=50, deadline=None, database=None, suppress_health_check=SLOW)
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
def test_tables_of_any_values_are_a_recipe_or_a_message(flat: dict[str, Any]) -> None:
    """What is taken is written and read back as it was; what is not names a key in one line each."""
    recipe, message = outcome(lambda: check_recipe(nested(flat)))
    if recipe is None:
        assert message.startswith("the recipe has ")
        assert len(message.splitlines()) >= 2
        return
    assert same(as_dict(override(recipe, {})), as_dict(recipe))


@seed(21)
@settings(max_examples=25, deadline=None, database=None, suppress_health_check=SLOW)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=6), st.binary(min_size=1, max_size=6))
def test_a_damaged_file_is_a_recipe_or_a_message(tmp_path: Path, places: list[int], noise: bytes) -> None:
    """Bytes of a complete recipe replaced, cut and repeated."""
    content = bytearray(to_toml(Recipe()).encode())
    for place in places:
        at = place % len(content)
        content[at : at + place % 3] = noise
    file = tmp_path / "recipe.toml"
    file.write_bytes(content)
    for read in (load_recipe, load_complete):
        recipe, message = outcome(partial(read, file))
        assert recipe is not None or str(file) in message or "the recipe" in message


@seed(22)
@settings(max_examples=40, deadline=None, database=None, suppress_health_check=SLOW)
@given(KEYS, st.text(max_size=12))
def test_settings_of_any_text_are_taken_or_refused(key: str, text: str) -> None:
    """As they come from the command line."""
    recipe, message = outcome(lambda: load_recipe(None, [f"{key}={text}"]))
    assert (recipe is None) == bool(message)
    assert len(message) < 5000
