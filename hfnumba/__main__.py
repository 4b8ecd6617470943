"""``python -m hfnumba``: the command line of this very environment, whatever is on the path."""

from hfnumba.cli import main

if __name__ == "__main__":
    main(prog_name="hfnumba")
