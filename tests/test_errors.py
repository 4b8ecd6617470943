import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfnumba.errors import MAX_MESSAGE, DataError, HfnumbaError, encoding_hint, printable, sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Größe 3 · αβ 日本 …", "Größe 3 · αβ 日本 …"),
        ("\x1b]0;title\x07\x1b[2Jred", r"\x1b]0;title\x07\x1b[2Jred"),
        ("one\ntwo\r\nthree", "one two three"),
        ("folder-\udcff\udc80", r"folder-\xff\x80"),
        ("\x00\x7f\x9b\u202e", r"\x00\x7f\x9b\u202e"),
        ("\ud800", r"\ud800"),
        (b"caf\xe9 caf\xc3\xa9\x1b", r"caf\xe9 café\x1b"),
        ("", ""),
    ],
)
def test_text_that_a_terminal_can_show(text, expected):
    assert printable(text) == expected
    assert str(HfnumbaError(text)) == expected or isinstance(text, bytes)


@given(st.text(alphabet=st.characters()))
def test_any_text_is_one_printable_line_and_stays_as_it_is(text):
    shown = printable(text)
    assert shown.isprintable() and printable(shown) == shown
    shown.encode("utf-8")


def test_long_messages_are_shortened():
    text = "start " + "x" * 10**6 + " end"
    assert printable(text).startswith("start x") and printable(text).endswith("x end")
    assert len(printable(text)) < MAX_MESSAGE + 10


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(DataError("a \x1b[1m")))
    assert type(error) is DataError and str(error) == r"a \x1b[1m"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "in <TCP (closed) Pool.round local=tcp://a:1 remote=tcp://b:2>: TimeoutError: timed out",
            "TimeoutError: timed out",
        ),
        ("in <x>\n is fine", "in <x> is fine"),
        ("", "OSError"),
    ],
)
def test_errors_of_dask_are_told_without_their_connection(words, expected):
    assert sentence(OSError(words)) == expected


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
def test_the_likely_encoding_is_named_with_what_to_do(encoding):
    name = "UTF-16" if "16" in encoding else "ISO-8859-1"
    assert f"iconv -f {name} -t UTF-8" in encoding_hint("größe".encode(encoding))
