import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfnumba.path_text import path_text, text_path


@given(st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name))
def test_any_path_becomes_text_and_comes_back(name):
    path = Path("/" + os.fsdecode(name))
    text = path_text(path)
    text.encode("utf-8")
    assert text_path(text) == path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/data/caf\xe9 1/a%b", "file:/data/caf%E9%201/a%25b"),
        ("/data/café 1/a%b".encode(), "/data/café 1/a%b"),
        (b"/file:/a%20b", "/file:/a%20b"),
    ],
)
def test_paths_of_unicode_stay_as_they_are_and_others_become_uris(path, expected):
    assert path_text(os.fsdecode(path)) == expected
