"""Completion by the shell, which asks the command itself: the documented way of click."""

import os
import subprocess
import sys

import pytest

from hfnumba.activations import ACTIVATIONS
from hfnumba.network import LOSSES
from hfnumba.optim.methods import METHODS
from tests.limits import LIMIT_S


def asked(**environment):
    """What the command prints for the shell."""
    program = "import sys; sys.argv[0] = 'hfnumba'; from hfnumba.cli import main; main()"
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.stderr == ""
    return done.stdout


def completions(*words):
    """What bash offers for the last word."""
    found = asked(_HFNUMBA_COMPLETE="bash_complete", COMP_WORDS=" ".join(words), COMP_CWORD=str(len(words) - 1))
    return [line.partition(",")[2] for line in found.splitlines()]


@pytest.mark.parametrize(
    ("option", "choices"), [("--method", [*METHODS]), ("--activation", [*ACTIVATIONS]), ("--loss", [*LOSSES])]
)
def test_the_choices_of_an_option(option, choices):
    assert completions("hfnumba", "train", "s.zarr", option, choices[0][:1]) == [
        name for name in choices if name.startswith(choices[0][:1])
    ]


def test_commands_and_options():
    assert completions("hfnumba", "da") == ["data"]
    assert set(completions("hfnumba", "data", "in")) == {"init", "info"}
    assert "--curvature-rows" in completions("hfnumba", "train", "--curv")


def test_the_script_of_a_shell():
    assert "compdef _hfnumba_completion hfnumba" in asked(_HFNUMBA_COMPLETE="zsh_source")
