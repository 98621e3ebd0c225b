"""Documents held against their models, with problems worded for the person who wrote them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from slmconform.package.problem import PackageProblem, several, shown
from slmconform.standard.catalogue import SPEC_VERSION

Model = TypeVar("Model", bound=BaseModel)

ERROR_LIMIT = 10_000  # that are looked at one by one

# What a pattern means, by the last keys of its place.
_MEANING = {
    "model.version": "a semantic version such as 1.2.0",
    "spec": f'a version of the standard in quotes, such as "{SPEC_VERSION}"',
    "loader.entry": "a file and a function, such as modeling.py:build",
    "loader.class": "the name of a class, such as BertForTokenClassification",
    "axes": "a size, or the name of an axis in lower case such as sequence",
    "range": "two numbers: the least and the greatest legal value",
    "languages": "language tags such as en or pt-BR",
    "sha256": "a sha256 in 64 lower-case hexadecimal digits",
    "id": "the id of a requirement, such as SLM-INV-004",
    "code": "the failure code of a report, such as attention-differs",
    "issue": "the address of an issue, beginning with https:// or http://",
    "expires": "a date without quotes, such as 2027-02-01",
}


def validated(model: type[Model], value: object, file: str) -> Model:
    """The document; raises `PackageProblem`: "unknown-key", "missing-key" or "wrong-value"."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        if error.error_count() > ERROR_LIMIT:
            got, want = f"{error.error_count()} breaches of the schema", "a document that keeps it"
            raise PackageProblem("wrong-value", file, got, want, "write the file again") from None
        problems: dict[str, PackageProblem] = {}
        for one in error.errors(include_url=False):
            place = _place(one["loc"], value)
            problems.setdefault(place, _problem(model, file, place, dict(one)))
        raise several(list(problems.values())) from None


def _place(loc: tuple[int | str, ...], value: object) -> str:
    """The dotted place in the document; pydantic adds the names of union members to it."""
    text = ""
    for step, key in enumerate(loc):
        last = step == len(loc) - 1
        if isinstance(value, list) and isinstance(key, int):
            text += f"[{key}]"
            value = value[key] if key < len(value) else None
        elif isinstance(value, dict) and (key in value or last):
            text += f".{key}" if text else str(key)
            value = value.get(key)
    return text


def _problem(
    model: type[BaseModel], file: str, place: str, error: dict[str, Any]
) -> PackageProblem:
    where = f"{file}: {place}" if place else file
    if error["type"] == "extra_forbidden":
        key = place.rpartition(".")[2]
        keys = _keys(model, error["loc"][:-1])
        return PackageProblem(
            "unknown-key",
            where,
            f"the key {shown(key)} is not known{did_you_mean(key, keys)}",
            f"only {', '.join(keys)}",
            "correct the key, or remove it",
        )
    if error["type"] == "missing":
        fix = f"add {place.rpartition('.')[2]}"
        return PackageProblem("missing-key", where, "the key is missing", "the key", fix)
    got = shown(error["input"])
    return PackageProblem("wrong-value", where, got, _wanted(place, error), "correct the value")


def _wanted(place: str, error: dict[str, Any]) -> str:
    plain = re.sub(r"\[\d+\]", "", place)
    for ending, meaning in _MEANING.items():
        if plain == ending or plain.endswith(f".{ending}"):
            return meaning
    message = str(error["msg"]).removeprefix("Input should be ").removeprefix("a valid ")
    return {"string": "a string in quotes", "boolean": "true or false"}.get(message, message)


def _keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at ``loc`` may hold, by their names in the document."""
    for key in loc:
        if isinstance(key, int):
            continue
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if key in fields:
            model = _model_in(fields[key].annotation) or model
        # A key of an open table, such as the name of an axis, is no field: the model stays.
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for part in get_args(annotation) if (m := _model_in(part))), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that names the word that was perhaps meant."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""
