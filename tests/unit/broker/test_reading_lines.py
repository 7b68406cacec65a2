"""Tasks one to a line: each stands for itself."""

from broker.messages import TaskSubmission
from broker.reading import Refused, read_submission_lines


def test_a_line_that_is_no_task_stands_in_nobodys_way() -> None:
    first, bad, misspelt, last = read_submission_lines(
        b'{"kind":"noop"}\n{"kind":\n\n{"kind":"noop","x":1}\n{"kind":"sleep"}\n'
    )

    assert isinstance(first, TaskSubmission)
    assert isinstance(last, TaskSubmission)
    assert isinstance(bad, Refused)
    assert bad.reason.startswith("[1] is ")
    assert isinstance(misspelt, Refused)
    assert misspelt.reason == "[2].x is 1: there is no such field"


def test_no_lines_at_all_are_refused() -> None:
    (refused,) = read_submission_lines(b" \n\n")

    assert isinstance(refused, Refused)
    assert refused.position is None
