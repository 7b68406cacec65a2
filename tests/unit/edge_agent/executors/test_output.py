"""The end of a task's output."""

from __future__ import annotations

from hypothesis import given, strategies as st
from pydantic_core import to_json

from edge_agent.executors.output import Tail


@given(st.lists(st.binary(max_size=30)), st.integers(1, 40))
def test_it_is_the_last_bytes_and_says_if_there_were_more(chunks: list[bytes], limit: int) -> None:
    tail = Tail(limit)
    for chunk in chunks:
        tail.add(chunk)
    whole = b"".join(chunks)
    assert tail.truncated == (len(whole) > limit)
    if all(32 <= byte < 128 for byte in whole):
        assert tail.text() == whole[-limit:].decode()


def test_colours_are_kept_and_what_is_no_text_is_marked() -> None:
    tail = Tail()
    tail.add(b"\x1b[31mred: it was too hot\x1b[0m\r\n\x00\x01\xff\tend")
    assert tail.text() == "\x1b[31mred: it was too hot\x1b[0m\r\n\ufffd\ufffd\ufffd\tend"


@given(st.sampled_from([b"\x00", b"\x1b", b"\x7f", b"\xff", b'"', b"\\", b"\n", "\u2028".encode()]))
def test_a_flood_of_anything_fits_into_a_result(piece: bytes) -> None:
    tail = Tail(65536)
    tail.add(piece * 65536)
    assert len(to_json(tail.text())) < 4 * 65536
