"""Holds boards against Grafana's schema: python schema.py board.json...

grafana-foundation-sdk is made by Grafana from the schemas of its dashboards and panels. Each board is read into its
classes. What a class does not know is a mistake, and so is a value that is not of the kind that the class says.
"""

import enum
import json
import sys
import types
import typing

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard


def main(files):
    plugins.register_default_plugins()
    mistakes, panels = [], 0
    for file in files:
        with open(file, encoding="utf-8") as text:
            board = json.load(text)
        read = dashboard.Dashboard.from_json(board)
        known = json.loads(JSONEncoder(sort_keys=True).encode(read))
        found = [*unknown(board, known, ""), *wrong(read, "")]
        mistakes += [f"{file}: {mistake}" for mistake in found]
        panels += len(board["panels"])
    if mistakes:
        sys.exit("\n".join(mistakes))
    print(f"{len(files)} boards, {panels} panels")


def unknown(ours, theirs, where):
    """What is in the file and not in what became of it."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            if key not in theirs:
                # What is null, the library leaves out.
                if value is not None:
                    yield f"{where}.{key}: unknown"
            else:
                yield from unknown(value, theirs[key], f"{where}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for n, (one, other) in enumerate(zip(ours, theirs)):
            yield from unknown(one, other, f"{where}[{n}]")
    elif ours != theirs:
        yield f"{where}: {ours!r} became {theirs!r}"


def wrong(thing, where):
    """Attributes of other kinds than their class says."""
    for cls in type(thing).__mro__:
        scope = vars(sys.modules[cls.__module__])
        for name, hint in cls.__dict__.get("__annotations__", {}).items():
            hint = eval(hint, scope) if isinstance(hint, str) else hint
            value = getattr(thing, name, None)
            # All fields have defaults; where none was given it may be None.
            if value is not None:
                yield from fits(value, hint, scope, f"{where}.{name}")


def fits(value, hint, scope, where):
    if isinstance(hint, typing.ForwardRef):
        hint = hint.__forward_arg__
    if isinstance(hint, str):
        hint = eval(hint, scope)
    origin, of = typing.get_origin(hint), typing.get_args(hint)
    if hint in (typing.Any, object):
        # What depends on the kind of the panel has a class all the same.
        if hasattr(value, "to_json"):
            yield from wrong(value, where)
        return
    if origin in (typing.Union, types.UnionType):
        tried = [list(fits(value, one, scope, where)) for one in of if one is not type(None)]
        if all(tried):
            yield from min(tried, key=len)
    elif origin is typing.Literal:
        if value not in of:
            yield f"{where}: {value!r} is none of {of}"
    elif origin is list:
        if not isinstance(value, list):
            yield f"{where}: {value!r} is no list"
            return
        for n, one in enumerate(value):
            yield from fits(one, of[0], scope, f"{where}[{n}]")
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{where}: {value!r} is no object"
            return
        for key, one in value.items():
            yield from fits(one, of[1], scope, f"{where}.{key}")
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        if value not in [one.value for one in hint]:
            yield f"{where}: {value!r} is none of {[one.value for one in hint]}"
    elif hint is float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            yield f"{where}: {value!r} is no number"
    elif hint in (str, int, bool):
        if type(value) is not hint and not (isinstance(value, enum.Enum) and isinstance(value, hint)):
            yield f"{where}: {value!r} is no {hint.__name__}"
    elif isinstance(value, dict):
        # The library reads not everything into its classes.
        read = hint.from_json(value)
        yield from unknown(value, json.loads(JSONEncoder().encode(read)), where)
        yield from wrong(read, where)
    else:
        yield from wrong(value, where)


if __name__ == "__main__":
    main(sys.argv[1:])
