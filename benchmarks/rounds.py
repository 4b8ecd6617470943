"""The cost of a round: the same as `hfnumba bench round`, for a checkout."""

from hfnumba.cli.bench import rounds

if __name__ == "__main__":
    rounds()
