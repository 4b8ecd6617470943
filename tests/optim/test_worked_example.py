"""The example in the docstring of the package is what happens."""

import doctest

import hfnumba.optim


def test_the_worked_example():
    result = doctest.testmod(hfnumba.optim)
    assert result.attempted > 10
    assert result.failed == 0
