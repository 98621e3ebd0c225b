"""The chat template at work on a probe conversation, within bounds of time, size and memory."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slmconform.engine.registry import Nonconformance, NotApplicable
from slmconform.measure.bench import Bench, measurement
from slmconform.measure.tokenizing import render, tokenizer
from slmconform.standard.evidence import ChatRecord

SECONDS = 5.0
CHARACTERS = 2**20
MEMORY = 2**29  # bytes beside what the process holds already
FIX = "take the template that the model was trained with"

Message = dict[str, Any]

CONVERSATION: tuple[Message, ...] = (
    {"role": "user", "content": "My parcel has not arrived. What can I do?"},
    {"role": "assistant", "content": "Please tell me your order number."},
    {"role": "user", "content": "It is 4711."},
)
SYSTEM: Message = {"role": "system", "content": "You answer letters of customers."}
TOOL = {
    "type": "function",
    "function": {
        "name": "find_parcel",
        "description": "Finds a parcel by its order number.",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "string", "description": "The order number."}},
            "required": ["number"],
        },
    },
}
DOCUMENTS = [{"title": "Parcels", "text": "A parcel arrives within two days."}]


@dataclass(frozen=True)
class Rendering:
    """A conversation that the template accepted, and the prompt that it made of it."""

    messages: list[Message]
    prompt: str


class _TooLong(BaseException):
    """Rendering has taken all its time; nothing in a template may catch this."""


def in_parts(messages: Sequence[Message]) -> list[Message]:
    """The same messages with their contents as lists of parts, as templates for images take it."""
    return [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in messages]


def conversations() -> Iterator[list[Message]]:
    """The probe conversation and what is left of it where a template refuses some of it."""
    for messages in (CONVERSATION, (SYSTEM, *CONVERSATION), CONVERSATION[:1]):
        yield [dict(one) for one in messages]
        yield in_parts(messages)


@measurement
def rendered(bench: Bench) -> Rendering:
    """The first conversation that the template accepts; a `Nonconformance` where it fails."""
    tok = tokenizer(bench)
    templates = getattr(tok, "chat_template", None)
    if not templates:
        raise NotApplicable("the tokenizer has no chat template")
    named = isinstance(templates, dict) and "default" not in templates
    first = next(iter(templates)) if named else None
    refusal: Exception | None = None
    for messages in conversations():
        try:
            return Rendering(messages, prompt_of(tok, messages, name=first))
        except Nonconformance:
            raise
        except Exception as error:
            refusal = refusal or error
    raise Nonconformance(
        code="template-raises",
        where="chat template",
        got=f"{type(refusal).__name__}: {str(refusal)[:200]}",
        want="a prompt for a conversation of user and assistant",
        why="every form of the probe conversation is refused",
        fix=FIX,
    )


def dropped(bench: Bench) -> list[Message]:
    """The messages of user and assistant that are not in the prompt; white space is free.

    A template for images may take contents in parts only, and pass over those that are text.
    """
    first = rendered(bench)
    left_out = _left_out(first)
    if left_out and isinstance(left_out[0]["content"], str):
        messages = in_parts(first.messages)
        with contextlib.suppress(Exception):
            left_out = _left_out(Rendering(messages, prompt_of(tokenizer(bench), messages)))
    return left_out


def _left_out(first: Rendering) -> list[Message]:
    prompt = " ".join(first.prompt.split())
    said = [one for one in first.messages if one["role"] in ("user", "assistant")]
    return [one for one in said if _text(one) not in prompt]


def _text(message: Message) -> str:
    content = message["content"]
    return content if isinstance(content, str) else str(content[0]["text"])


def recorded(bench: Bench) -> ChatRecord:
    """What evidence holds of the chat template."""
    first = rendered(bench)
    if not all(isinstance(one["content"], str) for one in first.messages):
        raise NotApplicable("the template takes contents in parts, which evidence does not hold")
    return ChatRecord(messages=first.messages, rendered=first.prompt)


def stays_in_bounds(bench: Bench) -> int:
    """Render with tools and documents, and every template that has a name; their number.

    Such a template may refuse this conversation. Raises `Nonconformance` where it has no bounds.
    """
    tok = tokenizer(bench)
    templates = getattr(tok, "chat_template", None)
    names: list[str | None] = [*templates] if isinstance(templates, dict) else [None]
    for name in names:
        for messages in ([dict(one) for one in CONVERSATION], in_parts(CONVERSATION)):
            try:
                prompt_of(tok, messages, name=name, tools=[TOOL], documents=DOCUMENTS)
                break
            except Nonconformance:
                raise
            except Exception:  # noqa: S112 - a refusal
                continue
    return len(names)


def prompt_of(tok: Any, messages: list[Message], *, name: str | None = None, **given: Any) -> str:
    """The prompt of a conversation; `Nonconformance` beyond the bounds, else what is raised."""
    from jinja2.exceptions import SecurityError

    try:
        with _within_bounds():
            prompt = render(tok, messages, chat_template=name, **given)
    except _TooLong:
        raise _out_of_bounds("slow", f"no end after {SECONDS:g} s", f"{SECONDS:g} s") from None
    except (MemoryError, OverflowError) as error:
        got = f"{type(error).__name__}: {str(error)[:200]}"
        raise _out_of_bounds("memory", got, f"{MEMORY // 2**20} MiB") from None
    except RecursionError as error:
        raise _out_of_bounds("recursion", str(error)[:200], "no endless recursion") from None
    except SecurityError as error:
        raise _out_of_bounds("unsafe", str(error)[:200], "the sandbox of Jinja") from None
    if len(prompt) > CHARACTERS:
        got = f"{len(prompt):,} characters"
        raise _out_of_bounds("long", got, f"{CHARACTERS:,} characters") from None
    return prompt


def _out_of_bounds(what: str, got: str, limit: str) -> Nonconformance:
    return Nonconformance(
        code=f"template-{what}",
        where="chat template",
        got=got,
        want=f"three short messages rendered within {limit}",
        why="whoever chats with the model runs this program: it stops a server",
        fix=FIX,
    )


@contextlib.contextmanager
def _within_bounds() -> Iterator[None]:
    """Meanwhile bound time and memory; loops of a template are python's and can be stopped.

    A single step of the interpreter cannot: it ends when memory does, or at the wall limit.
    """
    with _memory(), _alarm():
        yield


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, stop)
    earlier = signal.setitimer(signal.ITIMER_REAL, SECONDS, 1.0)  # again, where it was swallowed
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *earlier)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    """Linux counts what a process allocates and refuses more, with a `MemoryError`."""
    held = _allocated() if sys.platform == "linux" else None
    if held is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [held + MEMORY, *(one for one in (soft, hard) if one != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _allocated() -> int | None:
    """The bytes that count against RLIMIT_DATA; None where /proc does not tell them."""
    try:
        lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return None
