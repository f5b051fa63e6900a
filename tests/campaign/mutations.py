"""Ways to break a file, as Hypothesis's strategies: of bytes, JSON, text, ONNX, and what is in a zip.

A failure shrinks, because everything is drawn: to one mutation, of the first seed, with the simplest value.
"""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

import onnx
from google.protobuf.message import Message
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

NUMBERS = (0, 1, -1, 2, 3, 7, 255, 256, 65535, 10**6, 2**31 - 1, 2**31, -(2**31), 2**32, 2**63 - 1, -(2**63), 10**30)
"""At the ends of types, and sizes that no memory holds."""
FLOATS = (0.0, -0.0, -1.0, 0.5, 1e-320, 1e38, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    "x",
    " ",
    "0",
    "-1",
    "NaN",
    "null",
    "../x.png",
    "/dev/zero",
    "a\0b",
    "\x1b]0;title\x07\x1b[2J",
    "[red]x[/red]",
    "$x$ $y$",
    "\N{BYTE ORDER MARK}x",
    "\N{RIGHT-TO-LEFT OVERRIDE}txt",
    "\ud800",
    "x" * 5000,
    "line\nline",
)
DEEP = "[" * 5000 + "]" * 5000

numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(-(2**64), 2**64))
floats = st.sampled_from(FLOATS)
texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=8))
leaves = st.one_of(st.none(), st.booleans(), numbers, floats, texts, st.just([]), st.just({}))
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2))


@st.composite
def broken_bytes(draw: DrawFn, seeds: Sequence[bytes], words: Sequence[bytes] = ()) -> bytes:
    """One of the seeds with up to four edits; ``words`` are what files of this kind are made of."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        _edit(draw, data, words)
    return bytes(data)


def _edit(draw: DrawFn, data: bytearray, words: Sequence[bytes]) -> None:
    at = draw(st.integers(0, len(data)))
    length = draw(st.one_of(st.integers(1, 8), st.integers(1, max(len(data), 1))))
    match draw(st.sampled_from(("flip", "set", "number", "cut", "remove", "repeat", "insert", "word"))):
        case "flip" if at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        case "set" if at < len(data):
            data[at] = draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)) | st.integers(0, 255))
        case "number":
            form = draw(st.sampled_from(("<I", ">I", "<Q", ">Q", "<H", ">H")))
            size = struct.calcsize(form)
            number = struct.pack(form, draw(st.sampled_from(NUMBERS)) % 256**size)
            data[at : at + size] = number
        case "cut":
            del data[at:]
        case "remove":
            del data[at : at + length]
        case "repeat":
            data[at:at] = data[at : at + length] * draw(st.integers(1, 3))
        case "insert":
            data[at:at] = draw(st.binary(max_size=8))
        case "word" if words:
            data[at:at] = draw(st.sampled_from(words))


@st.composite
def broken_json(draw: DrawFn, seed: str | bytes) -> str:
    """A JSON document with one to three values changed, moved or dropped; sometimes none any more."""
    document = json.loads(seed)
    for _ in range(draw(st.integers(1, 3))):
        document = _edit_json(draw, document)
    text = json.dumps(document, ensure_ascii=draw(st.booleans()))
    end = draw(st.sampled_from(("whole",) * 12 + ("deep", "digits", "mark")))
    if end == "deep":
        return text.replace("[]", DEEP) if "[]" in text else DEEP
    if end == "digits":
        return text.replace("1", "1" * 5000, 1)
    return "\N{BYTE ORDER MARK}" * (end == "mark") + text


def _edit_json(draw: DrawFn, document: Any) -> Any:
    places = list(_containers(document))
    if not places or draw(st.integers(0, 30)) == 30:
        return draw(values)
    container, key = draw(st.sampled_from(places))
    match draw(st.sampled_from(("replace", "drop", "move", "rename", "text"))):
        case "replace":
            container[key] = draw(values)
        case "drop":
            del container[key]
        case "move":
            other, other_key = draw(st.sampled_from(places))
            container[key] = json.loads(json.dumps(other[other_key])) if other_key in _keys(other) else None
        case "rename" if isinstance(container, dict):
            container[draw(texts)] = container.pop(key)
        case "text":
            container[key] = json.dumps(container[key])
    return document


def _keys(container: Any) -> Sequence[Any]:
    return list(container) if isinstance(container, dict) else range(len(container))


def _containers(value: Any) -> Any:
    """Every place in a document: the container and the key or index."""
    if isinstance(value, (dict, list)):
        for key in _keys(value):
            yield value, key
            yield from _containers(value[key])


@st.composite
def broken_text(draw: DrawFn, seed: bytes) -> bytes:
    """Lines of fields between commas: some changed, dropped, doubled; then perhaps in another encoding."""
    lines = [line.split(",") for line in seed.decode().splitlines()]
    for _ in range(draw(st.integers(1, 3))):
        line = draw(st.integers(0, len(lines) - 1))
        field = draw(st.integers(0, len(lines[line]) - 1)) if lines[line] else 0
        match draw(st.sampled_from(("field", "drop", "double", "add", "quote", "long"))):
            case "field":
                lines[line][field : field + 1] = [draw(texts)]
            case "drop":
                del lines[line][field:]
            case "double":
                lines.insert(line, list(lines[line]))
            case "add":
                lines[line].append(draw(texts))
            case "quote":
                lines[line][field : field + 1] = ['"' + "".join(lines[line][field : field + 1])]
            case "long":
                lines[line][field : field + 1] = ["y" * 200_000]
    end = draw(st.sampled_from(("\n", "\r\n", "\r", "\n\n", "\0", "\N{LINE SEPARATOR}")))
    form = draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "latin-1")))
    return end.join(map(",".join, lines)).encode(form, "replace")


@st.composite
def broken_zip(draw: DrawFn, seed: bytes) -> bytes:
    """A zip one of whose members is broken, dropped, renamed, doubled, deflated, or enormous."""
    with zipfile.ZipFile(io.BytesIO(seed)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    form = zipfile.ZIP_STORED
    for _ in range(draw(st.integers(1, 2))):
        index = draw(st.integers(0, len(members) - 1))
        name, data = members[index]
        match draw(st.sampled_from(("bytes", "drop", "rename", "double", "deflate", "bomb", "swap"))):
            case "bytes":
                members[index] = name, draw(broken_bytes([data]))
            case "drop" if len(members) > 1:
                del members[index]
            case "rename":
                members[index] = draw(texts.map(lambda text: text.replace("\ud800", ""))), data
            case "double":
                members.append((name, data))
            case "deflate":
                form = zipfile.ZIP_DEFLATED
            case "bomb":
                form, members[index] = zipfile.ZIP_DEFLATED, (name, data + bytes(50_000_000))
            case "swap":
                members[index] = name, members[draw(st.integers(0, len(members) - 1))][1]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", form, strict_timestamps=False) as archive:
        for name, data in members:
            _write_member(archive, name, data)
    return file.getvalue()


def _write_member(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    with warnings.catch_warnings():  # about names that are there already
        warnings.simplefilter("ignore")
        archive.writestr(zipfile.ZipInfo(name or "x"), data, archive.compression)


Place = tuple[tuple[str, int | None], ...]
"""From the model to a field: names of fields, and indexes of those that repeat."""


@st.composite
def broken_onnx(draw: DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A model with one to three fields of its protobuf changed: of any node, attribute, type, tensor, entry."""
    seed = draw(st.sampled_from(seeds))
    model = onnx.ModelProto.FromString(seed)
    kinds = _places(seed)
    names = sorted(kinds)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(names))
        _edit_field(draw, model, draw(st.sampled_from(kinds[kind])), kinds[kind])
    return model.SerializeToString()


@cache
def _places(data: bytes) -> dict[str, list[Place]]:
    """The fields that a model has, by kind, so that there are not only fields of weights to draw."""
    kinds: dict[str, list[Place]] = defaultdict(list)

    def walk(message: Message, here: Place) -> None:
        for field, value in message.ListFields():
            repeats = not isinstance(value, (Message, str, bytes, int, float))
            for index, one in enumerate(value) if repeats else [(None, value)]:
                if index is not None and index > 50 and not isinstance(one, Message):
                    break  # values of a tensor
                place = (*here, (field.name, index))
                kinds[field.full_name].append(place)
                if isinstance(one, Message):
                    walk(one, place)

    walk(onnx.ModelProto.FromString(data), ())
    return dict(kinds)


def _edit_field(draw: DrawFn, model: onnx.ModelProto, place: Place, same_kind: Sequence[Place]) -> None:
    name, index = place[-1]
    what = draw(st.sampled_from(("value", "drop", "double", "all", "copy")))
    try:
        parent = _at(model, place[:-1])
        value = getattr(parent, name)
        if what == "all":
            parent.ClearField(name)
        elif what == "drop" and index is not None:
            del value[index]
        elif what == "drop":
            parent.ClearField(name)
        elif what == "double" and index is not None:
            value.append(value[index])
        elif what == "copy" or isinstance(_at(model, place), Message):
            other = _at(model, draw(st.sampled_from(same_kind)))
            _assign(parent, name, index, other)
        else:
            _assign(parent, name, index, draw(_like(_at(model, place))))
    except (IndexError, ValueError, TypeError, UnicodeError):
        return  # an edit before took the place away, or the field cannot hold the value


def _at(message: Any, place: Place) -> Any:
    for name, index in place:
        message = getattr(message, name)
        if index is not None:
            message = message[index]
    return message


def _assign(parent: Any, name: str, index: int | None, value: Any) -> None:
    if isinstance(value, Message):
        target = getattr(parent, name)
        (target if index is None else target[index]).CopyFrom(type(value).FromString(value.SerializeToString()))
    elif index is None:
        setattr(parent, name, value)
    else:
        getattr(parent, name)[index] = value


def _like(value: Any) -> SearchStrategy[Any]:
    """Values to take the place of one of this type; of a text that is JSON, the document broken."""
    if isinstance(value, bytes):
        return broken_bytes([value])
    if isinstance(value, str):
        return broken_json(value) | texts if value[:1] in ("{", "[") else texts
    if isinstance(value, float):
        return floats
    return st.integers(-1, 30) | st.sampled_from(NUMBERS)
