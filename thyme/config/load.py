"""Read settings from a TOML recipe and from overrides, with messages that say what to write instead."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, overload

from pydantic import BaseModel, SecretStr, ValidationError

from thyme.config.base import Config
from thyme.config.run import RunConfig
from thyme.errors import ConfigError

RECIPES = Path(__file__).parent.parent / "recipes"
"""Folder of the recipes that come with the package."""

ConfigT = TypeVar("ConfigT", bound=BaseModel)


@overload
def load(recipe: str | Path | None = None, overrides: Sequence[str] = ()) -> RunConfig: ...


@overload
def load(recipe: str | Path | None, overrides: Sequence[str], schema: type[ConfigT]) -> ConfigT: ...


def load(
    recipe: str | Path | None = None, overrides: Sequence[str] = (), schema: type[BaseModel] = RunConfig
) -> BaseModel:
    """Read settings.

    Args:
        recipe: ``@NAME`` of a shipped recipe, ``@FILE`` or a path; None takes the defaults.
        overrides: ``a.b=value`` each, the value in TOML or, failing that, a plain string; later ones win.
        schema: Model of the settings; by default those of a run.

    Raises:
        ConfigError: No such recipe, not TOML, an unknown key (with its nearest match), or a value that cannot be.
    """
    path = None if recipe is None else _find(recipe, schema)
    values: dict[str, Any] = {} if path is None else _read(path)
    for override in overrides:
        _apply(values, override, schema)
    return _validate(values, schema, "the settings" if path is None else f"'{path.name}'")


def changed(config: ConfigT, settings: Mapping[str, Any], where: str) -> ConfigT:
    """A config with some of its fields replaced.

    Args:
        config: What holds for the others.
        settings: Fields and values.
        where: What an error calls the whole.

    Raises:
        ConfigError: There is no such field, or not with that value.
    """
    if not settings:
        return config
    fields = {name: getattr(config, name) for name in config.model_fields_set}
    return cast(ConfigT, _validate({**fields, **settings}, type(config), where))


def overridden(config: ConfigT, overrides: Sequence[str]) -> ConfigT:
    """A config with ``a.b=value`` overrides in place, as `load` reads them.

    Raises:
        ConfigError: An unknown key (with its nearest match), or a value that cannot be.
    """
    if not overrides:
        return config
    values = config.model_dump(exclude_unset=True)
    for override in overrides:
        _apply(values, override, type(config))
    return cast(ConfigT, _validate(values, type(config), "the settings"))


def recipes(schema: type[BaseModel] = RunConfig) -> list[str]:
    """Names of the shipped recipes of a schema, in order."""
    return sorted(path.stem for path in _folder(schema).glob("*.toml"))


def _folder(schema: type[BaseModel]) -> Path:
    return RECIPES / schema.recipe_folder if issubclass(schema, Config) else RECIPES


def _find(recipe: str | Path, schema: type[BaseModel]) -> Path:
    text = str(recipe)
    name = text.removeprefix("@")
    if text.startswith("@") and name in recipes(schema):
        return _folder(schema) / f"{name}.toml"
    if Path(name).is_file():
        return Path(name)
    known = ", ".join(f"@{known}" for known in recipes(schema)) or "none"
    raise ConfigError(f"no recipe or file '{text}'{_way_out(name, schema)} (shipped: {known})")


def _way_out(name: str, schema: type[BaseModel]) -> str:
    """The recipe that was meant: one of another command, or the nearest name."""
    others = sorted(RECIPES.glob(f"*/{name}.toml")) if re.fullmatch(r"\w+", name) else []
    commands = " and ".join(f"`thyme {path.parent.name}`" for path in others)
    if commands:
        return f" for this command; @{name} is a recipe of {commands}"
    hint = _nearest(name, recipes(schema))
    return f"; did you mean @{hint}?" if hint else ""


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe '{path.name}' cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"recipe '{path.name}' is not TOML: {error}") from error


def _apply(values: dict[str, Any], override: str, schema: type[BaseModel]) -> None:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise ConfigError(f"override '{override}' must look like key.name=value")
    places = schema.places(path, values) if issubclass(schema, Config) else [path]
    for place in places:
        _put(values, place, _parse_value(text.strip()), override)


def _put(values: dict[str, Any], path: Sequence[str], value: Any, override: str) -> None:
    table = values
    for depth, name in enumerate(path[:-1]):
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"override '{override}': '{'.'.join(path[: depth + 1])}' is a value, not a table")
    table[path[-1]] = value


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _validate(values: Mapping[str, Any], schema: type[BaseModel], where: str) -> BaseModel:
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        lines = [_explain(detail, schema, values) for detail in error.errors(include_url=False)]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from error


def _explain(detail: Any, schema: type[BaseModel], values: Mapping[str, Any]) -> str:
    path = [str(part) for part in detail["loc"]]
    key = ".".join(path) or "(whole)"
    if detail["type"] == "missing":
        return f"'{key}' is missing{_meant(path[:-1], values)}"
    if detail["type"] != "extra_forbidden":
        given = detail["input"]
        got = "" if isinstance(given, SecretStr) else f" (got {given!r})"
        return f"{key}: {detail['msg'].removeprefix('Value error, ')}{got}"
    fields = _fields(schema, path[:-1])
    hint = _nearest(path[-1], fields)
    way_out = f"did you mean '{'.'.join([*path[:-1], hint])}'?" if hint else f"known here: {', '.join(fields)}"
    return f"unknown key '{key}'; {way_out}"


def _meant(path: Sequence[str], values: Mapping[str, Any]) -> str:
    """A neighbour of a table that lacks something, where one has nearly its name: the table is a slip, then."""
    if not path:
        return ""
    around: Any = values
    for name in path[:-1]:
        around = around.get(name) if isinstance(around, Mapping) else None
    others = [str(name) for name in around if name != path[-1]] if isinstance(around, Mapping) else []
    hint = _nearest(path[-1], others)
    return f"; did you mean '{'.'.join([*path[:-1], hint])}'?" if hint else ""


def _fields(schema: type[BaseModel], path: Sequence[str]) -> list[str]:
    """Names of the fields of the model that stands at `path`; empty where no model stands."""
    annotation: Any = schema
    for name in path:
        annotation = _inside(annotation, name)
    model = _model(annotation)
    return [] if model is None else list(model.model_fields)


def _inside(annotation: Any, name: str) -> Any:
    """What stands under a key: the field of a model, or any entry of a dictionary."""
    model = _model(annotation)
    if model is not None:
        field = model.model_fields.get(name)
        return None if field is None else field.annotation
    return get_args(annotation)[-1] if get_origin(annotation) is dict else None


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation names, alone or beside None."""
    if get_origin(annotation) is dict:
        return None
    candidates = [annotation, *get_args(annotation)]
    return next((item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)), None)


def _nearest(name: str, known: Sequence[str]) -> str:
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return matches[0] if matches else ""
