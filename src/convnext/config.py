"""From a TOML file and `key=value` overrides to a `Recipe`, and back to a complete, commented TOML file.

All mistakes are reported in one go, each with its key, its value, the rule and the nearest name.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from convnext.dotted import plain, set_key, unset_key
from convnext.errors import RecipeError
from convnext.key_names import as_list, same_job
from convnext.recipe import NORMALIZATIONS, Recipe
from convnext.toml_file import NoToml, read_toml, toml_value

_TOLD, _LONGEST = 20, 400
"""Unknown keys that are told one by one, and letters that are told of each and of a value."""
_ALIASES = {"[0,1]": "unit", "[-1,1]": "symmetric", "0..1": "unit", "-1..1": "symmetric"}


def load_recipe(path: Path | None = None, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe, a file or one that is shipped, applies overrides of the form `train.epochs=5`, checks the whole.

    Raises:
        RecipeError: the file is missing or not TOML, a key is unknown, a value breaks its rule. The message lists all.
    """
    if path is not None and not path.exists():
        path = find_recipe(str(path))
    raw = _read_toml(path) if path is not None else {}
    source, overrides, own = str(path) if path is not None else "", list(overrides), copy.deepcopy(raw)
    keys = [_apply(raw, text) for text in overrides]
    _replace_length(raw, set(keys))
    try:
        return check_recipe(raw, "with these settings" if source and overrides else source)
    except RecipeError:
        if source and overrides:
            for key in keys:
                unset_key(own, key)
            check_recipe(own, source)  # its own mistakes are told first, but for those that a setting replaces
        raise


def _replace_length(raw: dict[str, Any], keys: set[str]) -> None:
    """What a recipe says of its length gives way to what the settings with these keys say."""
    if "train.minutes" in keys and "train.epochs" not in keys:
        set_key(raw, "train.epochs", "auto")  # a new budget replaces the length that an old one led to
    if {"train.minutes", "train.epochs", "train.batch"} & keys and "train.replanned" not in keys:
        unset_key(raw, "train.replanned")  # it tells how a run of the old length was changed


def recipe_of(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe | None, settings: Mapping[str, Any]
) -> Recipe:
    """A recipe as a program gives it: a file or a shipped one, nested dictionaries or a `Recipe`; with settings.

    Settings are named by their keys, whole ("train.epochs") or by the last word where one key alone ends so.

    Raises:
        RecipeError: as `load_recipe`.
    """
    raw: dict[str, Any] = {}
    if isinstance(recipe, Recipe):
        raw = as_dict(recipe)
    elif isinstance(recipe, Mapping):
        raw = copy.deepcopy(dict(recipe))
    elif recipe is not None:
        path = Path(recipe)
        raw = _read_toml(path if path.is_file() else find_recipe(str(path)))
    given: dict[str, Any] = {}
    for name, value in settings.items():
        key = _key_of(name)
        if "." not in key and _keys(key) and isinstance(value, Mapping):  # a whole table
            given |= {f"{key}.{inner}": one for inner, one in value.items()}
        else:
            given[key] = value
    for key, value in given.items():
        set_key(raw, key, value)
    _replace_length(raw, set(given))
    return check_recipe(plain(raw))


def _key_of(name: str) -> str:
    """The key that a setting means, or the name itself, which `check_recipe` then explains."""
    if "." in name or name in _keys(""):
        return name
    found = [key for key in all_keys() if key.rpartition(".")[2] == name]
    if len(found) > 1:
        raise RecipeError(f'"{name}" could be {" or ".join(found)}; write **{{"{found[0]}": ...}}')
    return found[0] if found else name


def load_complete(path: Path) -> Recipe:
    """The recipe of a run, in which nothing is left open.

    Raises:
        RecipeError: as `load_recipe`, or a value is "auto".
    """
    if path.is_symlink():  # its values are printed, and what a stranger's link leads to is not theirs to show
        raise RecipeError(f"{path} is a link to another place, which is not followed; put a copy of the recipe there")
    recipe = load_recipe(path)
    # not used once epochs are known; not there in runs of before; "auto" is a rule of its own
    open_ended = ("task.kind", "train.minutes", "model.init", "data.value_range", "data.label_separator")
    left = [key for key in all_keys() if key not in open_ended and get(recipe, key) == "auto"]
    if left:
        raise RecipeError(
            f'the recipe {path} leaves {", ".join(left)} at "auto"; a run holds what was chosen. '
            "plan.json beside it has the values; or give one"
        )
    return recipe


def shipped() -> Path:
    """The folder of the recipes that come with the package: in an installed package, or at the top of a checkout."""
    inside = Path(__file__).parent / "recipes"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "recipes"


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """The value of each `key=value`, by key; a key that there is not is left to who takes them."""
    found: dict[str, Any] = {}
    for text in texts:
        raw: Any = {}
        key = _apply(raw, text)
        for part in key.split("."):
            raw = raw[part]
        found[key] = raw
    return found


def setting_text(value: Any) -> str:
    """A value as it stands after the `=` of a setting."""
    plain = isinstance(value, str) and value == value.strip() and not _reads_as_toml(value)
    return value if plain else toml_value(value)


def _reads_as_toml(text: str) -> bool:
    """Whether a bare word of a setting would be taken for something else than text."""
    if text.lower() in ("true", "false"):
        return True
    try:
        tomllib.loads(f"v = {text}")
    except (ValueError, RecursionError):
        return False
    return True


def find_recipe(word: str) -> Path:
    """A recipe by the name of its file, with or without `.toml`, or by that of one that is shipped.

    Raises:
        RecipeError: there is none; the message has the nearest name.
    """
    path = Path(word).expanduser()
    candidates = [path, path.with_name(f"{path.name}.toml"), shipped() / word, shipped() / f"{word}.toml"]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    hint = nearest(word.removesuffix(".toml"), shipped_names()) if path.parent == Path() or "/" in word else ""
    raise RecipeError(
        f"there is no recipe {word}; give a TOML file or a name of `convnext recipe list`, or leave it out for the "
        f"defaults{hint}"
    )


def shipped_names() -> list[str]:
    """The names of the shipped recipes, such as imagenet1k/convnext_tiny."""
    folder = shipped()
    files = (file for file in folder.rglob("*.toml") if file.parent.name != "spaces")
    return sorted(str(file.relative_to(folder).with_suffix("")) for file in files)


def split_settings(words: Iterable[str]) -> tuple[Path | None, list[str]]:
    """Sorts the words after DATA into a recipe file, if one is given, and `key=value` settings."""
    words = list(words)
    files = [word for word in words if _is_file(word)]
    if len(files) > 1:
        raise RecipeError(f"one recipe at most can be given, not {len(files)}: {', '.join(files)}")
    return (Path(files[0]) if files else None), [word for word in words if not _is_file(word)]


def _is_file(word: str) -> bool:
    """Whether a word names a recipe and is no setting; the name of a file may hold a `=` (`lr=1e-3.toml`)."""
    key, sign, _ = word.partition("=")
    if not sign:
        return True
    if key.strip() in all_keys():
        return False
    try:
        return word.endswith(".toml") or Path(word).expanduser().is_file()
    except (OSError, RuntimeError):
        return False


def check_recipe(raw: Mapping[str, Any], source: str = "") -> Recipe:
    """Turns nested dictionaries into a `Recipe`, or raises a RecipeError that lists every mistake."""
    from pydantic import TypeAdapter, ValidationError

    mistakes = _unknown_keys(raw) + _switches(raw)
    known = {
        k: ({n: v for n, v in t.items() if n in _keys(k)} if isinstance(t, Mapping) else t)
        for k, t in raw.items()
        if k in _keys("")
    }
    normalization = known.get("data", {}).get("normalization") if isinstance(known.get("data"), Mapping) else None
    if normalization is not None:
        text = str(normalization).replace(" ", "").lower()
        known["data"]["normalization"] = _ALIASES.get(text, text)
    recipe = None
    try:
        recipe = TypeAdapter(Recipe).validate_python(known)
    except ValidationError as error:
        mistakes += _explain(error)
    if recipe is not None and len(recipe.data.mean) != len(recipe.data.std):
        mean, std = (toml_value(values) for values in (recipe.data.mean, recipe.data.std))
        mistakes.append(f"data.mean = {mean}, data.std = {std}: must be as many numbers, one of each for a channel")
    if mistakes or recipe is None:
        head = f"the recipe {source} has" if source else "the recipe has"
        lines = "\n".join(f"  - {m}" for m in mistakes)
        raise RecipeError(f"{head} {len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}:\n{lines}")
    return recipe


def override(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """A copy of `recipe` with some keys (`"train.epochs"`) set to other values."""
    raw = as_dict(recipe)
    for key, value in values.items():
        set_key(raw, key, value)
    return check_recipe(raw)


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """Nested dictionaries of plain values, in the order of the schema."""
    return dataclasses.asdict(recipe)


def get(recipe: Recipe, key: str) -> Any:
    """The value at a dotted key."""
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part)
    return value


def to_toml(recipe: Recipe, header: str = "") -> str:
    """The complete recipe as TOML, each key with its meaning, below a header comment."""
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    if lines:
        lines.append("")
    tables = []
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if dataclasses.is_dataclass(value):
            tables.append(f"\n[{field.name}]")
            tables += [_line(f, getattr(value, f.name)) for f in dataclasses.fields(value)]
        else:
            lines.append(_line(field, value))
    return "\n".join(lines + tables) + "\n"


def as_setting(key: str, value: Any) -> str:
    """`key=value` as a command takes it."""
    return f"{key}={value if isinstance(value, str) else toml_value(value)}"


def nearest(word: str, choices: Iterable[str]) -> str:
    """`; did you mean "x"?` for the closest choice, or nothing."""
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f'; did you mean "{close[0]}"?' if close else ""


def _line(field: dataclasses.Field[Any], value: Any) -> str:
    return f"{field.name + ' = ' + toml_value(value):<34} # {field.metadata['doc']}"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except FileNotFoundError:
        raise RecipeError(f"there is no recipe {path}; give a TOML file, or leave it out for the defaults") from None
    except NoToml as error:
        raise RecipeError(f"the recipe {path} {error}") from None


def _apply(raw: dict[str, Any], text: str) -> str:
    """Sets one `key=value` in the raw recipe; returns the key."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise RecipeError(f'"{text}" is not a setting; write key=value, as train.epochs=5')
    value = value.strip()
    try:
        parsed = tomllib.loads(f"v = {value}")["v"]
    except (ValueError, RecursionError):  # no TOML, or more digits than Python reads
        lower = value.lower()
        parsed = lower == "true" if lower in ("true", "false") else value
    set_key(raw, key.strip(), parsed)
    return key.strip()


def _keys(table: str) -> list[str]:
    """Names that may stand in a table of the recipe; "" is the top level."""
    for field in dataclasses.fields(Recipe):
        if field.name == table and isinstance(field.default_factory, type):
            return [f.name for f in dataclasses.fields(field.default_factory)]
    return [f.name for f in dataclasses.fields(Recipe)] if table == "" else []


def all_keys() -> list[str]:
    """Every key of a recipe, dotted."""
    top = _keys("")
    return [k for name in top for k in ([f"{name}.{inner}" for inner in _keys(name)] or [name])]


def _unknown_keys(raw: Mapping[str, Any]) -> list[str]:
    unknown = []
    for name, value in raw.items():
        if name not in _keys(""):
            unknown.append(name)
        elif _keys(name) and isinstance(value, Mapping):
            unknown += [f"{name}.{inner}" for inner in value if inner not in _keys(name)]
    told = [f"{_cut(key)}: there is no such key{_nearest_key(_cut(key))}" for key in unknown[:_TOLD]]
    return told + ([f"and {len(unknown) - _TOLD:,} more keys that there are not"] if len(unknown) > _TOLD else [])


def _cut(text: str) -> str:
    """What is told of a key or a value that may be of any length."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _switches(raw: Mapping[str, Any]) -> list[str]:
    """true and false where numbers or words belong, which pydantic takes for 1 and 0."""
    found, defaults = [], as_dict(Recipe())
    for name, table in raw.items():
        own: Any = defaults.get(name)
        for inner, value in table.items() if isinstance(table, Mapping) and isinstance(own, dict) else ():
            values = value if isinstance(value, list | tuple) else (value,)
            if inner in own and not isinstance(own[inner], bool) and any(isinstance(v, bool) for v in values):
                shown = _cut(toml_value(value))
                found.append(f"{name}.{inner} = {shown}: true and false are for switches; this is none")
    return found


def _nearest_key(key: str) -> str:
    last = key.rpartition(".")[2]
    keys = all_keys()
    same_name = [k for k in keys if k.rpartition(".")[2] == last.lower()]
    meant = same_name[0] if same_name else same_job(key, keys)
    return f'; did you mean "{meant}"?' if meant else nearest(key.lower(), keys)


_RULES = {
    "missing": "a list of full length", "too_long": "no longer", "tuple_type": "a list",
    "predicate_failed": "rand, then each once at most m0 to m10, n1 to n20, mstd, mmax, p, inc0 or inc1, as "
    "rand-m9-mstd0.5-inc1; another word is not understood by timm",
    "int_parsing": "a whole number", "float_parsing": "a number",
}  # fmt: skip
"""Our words for pydantic's errors, where its own speak of Python."""


def _explain(error: Any) -> list[str]:
    """One sentence a key from pydantic's errors, the branches of a union joined by "or"."""
    rules: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for e in error.errors():
        key = ".".join(str(part) for part in e["loc"][:2] if isinstance(part, str) and part.isidentifier())
        values[key] = e["input"]
        rule = _RULES.get(e["type"]) or e["msg"][0].lower() + e["msg"][1:]
        rules.setdefault(key, []).append(rule.removeprefix("input should be ").replace("'", '"'))
    mistakes = []
    for key, parts in rules.items():
        rule, shown = " or ".join(dict.fromkeys(parts)), _cut(toml_value(values[key]))
        mistakes.append(f"{key} = {shown}: must be {rule}{as_list(key)}{_choice_hint(key, values[key], rule)}")
    return mistakes


def _choice_hint(key: str, value: Any, rule: str) -> str:
    """The nearest of the words that the rule allows."""
    if not isinstance(value, str):
        return ""
    if key == "data.normalization":
        return nearest(value, NORMALIZATIONS)
    words = [word for word in re.findall('"([^"]*)"', rule) if word.isidentifier()]
    return nearest(value, words or ["true", "false"])
