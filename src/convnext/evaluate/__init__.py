"""Judging and naming. `convnext.evaluate(run, data)` judges; see `convnext.api.evaluate`."""

from convnext import _make_callable

_make_callable(__name__)
