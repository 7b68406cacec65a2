"""What logs' files are called, and which of them go."""

from __future__ import annotations

from pathlib import PurePosixPath

from hypothesis import given, strategies as st

from edge_agent.rules.logs import File, file_bytes, file_name, left_out, log_name, must_stay_free, read_name, to_go

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", fullmatch=True)
ATTEMPTS = st.integers(1, 2**31 - 1)
OFFSETS = st.integers(0, 2**53)


@given(IDS, ATTEMPTS, OFFSETS)
def test_a_files_name_is_read_back_and_leads_nowhere_else(task: str, attempt: int, start: int) -> None:
    folder, name = PurePosixPath(file_name(task, attempt, start)).parts
    assert read_name(name) == (log_name(task, attempt), start)
    assert ".." not in (folder, name)
    assert not set(folder + name) & set(":/\\")
    assert len(name) <= 120


@given(IDS, IDS, ATTEMPTS, ATTEMPTS)
def test_two_attempts_share_no_file_even_where_case_does_not_count(one: str, other: str, a: int, b: int) -> None:
    same = file_name(one, a, 0).casefold() == file_name(other, b, 0).casefold()
    assert same == ((one, a) == (other, b))


def test_other_files_are_no_logs() -> None:
    for name in ("dropped", "x.log", "a-0123.0.0.log", "a-0123.1.00.log", "a-0123.1.0.log.new", ".."):
        assert read_name(name) is None


def file(log: str, written_at: int, size: int = 10_000, start: int = 0) -> File:
    return File(log, start, size, written_at)


def test_the_log_that_was_written_last_goes_last_and_one_being_written_never() -> None:
    files = [file("new", 9), file("old", 1), file("open", 0), file("middle", 5), file("old", 2, start=10_000)]
    assert [one.log for one in to_go(files, {"open"}, 20_001)] == ["old", "old", "middle"]
    assert [one.log for one in to_go(files, {"open"}, 1_000_000)] == ["old", "old", "middle", "new"]
    assert list(to_go(files, {"open"}, 0)) == []


def test_a_log_of_one_line_counts_as_what_it_takes_of_a_disk() -> None:
    files = [file(f"log-{number}", number, size=10) for number in range(10)]
    assert len(list(to_go(files, set(), 8192))) == 2


def test_many_open_logs_share_what_all_may_have() -> None:
    assert file_bytes(16_000_000, 256_000_000, 4) == 8_000_000
    assert file_bytes(16_000_000, 256_000_000, 64) == 2_000_000


def test_a_small_disk_is_left_a_tenth_of_itself() -> None:
    assert must_stay_free(100_000_000) == 10_000_000
    assert must_stay_free(1_000_000_000_000) == 64_000_000


def test_what_is_left_out_stands_on_a_line_of_its_own() -> None:
    assert left_out(17, "no room") == b"\n[holdfast: 17 bytes were left out here: no room]\n"
