"""Training. `convnext.train(data, recipe, out=..., epochs=...)` trains, judges, reports; see `convnext.api.train`."""

from convnext import _make_callable

_make_callable(__name__)
