"""What is told of an attempt's end: to the journal, and to who asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from broker.messages import MAX_MESSAGE_BYTES, WORTH_ANOTHER_TRY, Outcome, Reply, TaskFinished
from broker.problems import explain
from edge_agent.rules.attempts import Ending

if TYPE_CHECKING:
    from edge_agent.rules.attempts import Held

MAX_ERROR_CHARACTERS = 4096


def finished(held: Held, ending: Ending, at: int) -> TaskFinished:
    """Return the event of an attempt's end. A result that cannot be told is a failure of its own."""
    try:
        return _event(held, ending, at)
    except ValidationError as error:
        problem = explain(error, root="result")[0]
        return _event(held, failure(f"the result is no JSON: expected {problem.expected}"), at)


def is_last(held: Held, ending: Ending) -> bool:
    """Tell whether who asked can be answered: whether the hub will not try the task again after this end."""
    if not held.spec.idempotent or ending.outcome not in WORTH_ANOTHER_TRY:
        return True
    return held.ref.attempt >= held.spec.retry.max_attempts


def reply(event: TaskFinished) -> Reply:
    """Return what who asked for the task hears."""
    return Reply(task=event.task, outcome=event.outcome, result=event.result, error=event.error)


def success(result: Any) -> Ending:  # noqa: ANN401  whatever a handler returned
    """Return the ending of an attempt that came to its end, if its result can be told."""
    try:
        plain = to_jsonable_python(result)
        size = len(to_json(plain))
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        return failure(f"the result is no JSON: {error}")
    if size > MAX_MESSAGE_BYTES:
        return failure(f"the result is {size} bytes long: expected at most {MAX_MESSAGE_BYTES}")
    return Ending(Outcome.SUCCEEDED, plain)


def failure(error: str, result: Any = None) -> Ending:  # noqa: ANN401
    """Return the ending of an attempt that failed."""
    if result is not None and success(result).outcome is not Outcome.SUCCEEDED:
        result = None
    return Ending(Outcome.FAILED, result, legible(error))


def legible(text: str) -> str:
    """Return what can be told of an error's text: a file's name in it may be no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()[:MAX_ERROR_CHARACTERS]


def raised(error: BaseException) -> str:
    """Say what a handler raised: `ValueError: no such camera`."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _event(held: Held, ending: Ending, at: int) -> TaskFinished:
    return TaskFinished(
        at=at,
        task=held.ref.task,
        attempt=held.ref.attempt,
        outcome=ending.outcome,
        result=ending.result,
        error=ending.error,
    )
