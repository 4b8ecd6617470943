"""`hfnumba cluster-scripts` names what it wrote, and refuses to replace files."""

from click.testing import CliRunner

from hfnumba.cli import main
from tests.house import ROOT


def test_it_prints_the_paths(tmp_path):
    command = ["cluster-scripts", str(tmp_path / "cluster")]
    names = sorted(path.name for path in (ROOT / "cluster").iterdir())
    first = CliRunner().invoke(main, command)
    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout.splitlines() == [str(tmp_path / "cluster" / name) for name in names]
    again = CliRunner().invoke(main, command)
    assert (again.exit_code, again.stdout) == (2, "")
    assert again.stderr.startswith(f"error: {tmp_path / 'cluster'} already has ")
    assert CliRunner().invoke(main, [*command, "--overwrite"]).stdout == first.stdout
