"""The single numbers of docs/reproduction.md, and the tables of its figures, from ledgers.

    python benchmarks/reproduction.py mnist.zarr --out figures [--write docs/reproduction.md]

STORE is the whole of MNIST. Runs that are complete are not repeated; an interrupted command goes on when it is given
again. With --write, the table of the runs replaces what stands between the markers named `runs`, and those of
`hfnumba figure`, where they exist in the folder, what stands between markers of their names.
"""

import argparse
import sys
from pathlib import Path

import claims
from pages import insert

from hfnumba.data import open_store
from hfnumba.errors import HfnumbaError
from hfnumba.figures.experiment import Experiment, Laboratory
from hfnumba.figures.material import material
from hfnumba.figures.options import FigureOptions
from hfnumba.figures.summary import Series, carry_out, results

DEEP = Experiment.of(hidden=(400, 150), max_iterations=30, target_error=0.01, curvature_rows=2048)
FIRST = Experiment.of(hidden=(400, 150), max_iterations=40, target_error=0.01)
SMALL = {
    "hf-bicgstab": DEEP,
    "hf-bicgstab, the paper's text": DEEP.but(paper=True),
    "hf-bicgstab, the paper's text, 512 curvature rows": DEEP.but(paper=True, curvature_rows=512),
    "hf-bicgstab, the paper's text, 4096 curvature rows": DEEP.but(paper=True, curvature_rows=4096),
    "hf-cg, the paper's text": DEEP.but(paper=True, method="hf-cg"),
    "gn-cg, the paper's text": DEEP.but(paper=True, method="gn-cg"),
    "hybrid-cg, the paper's text": DEEP.but(paper=True, method="hybrid-cg"),
    "hf-lanczos": DEEP.but(method="hf-lanczos"),
    "hf-lanczos, 5 products": DEEP.but(method="hf-lanczos", krylov_iterations=5),
    "hf-steihaug": DEEP.but(method="hf-steihaug"),
    "hf-minres": DEEP.but(method="hf-minres"),
    "hf-bicgstab, relu and He's start": DEEP.but(activation="relu", init="he"),
    "lbfgs": FIRST.but(method="lbfgs", max_iterations=60),
    "adam, 2048 rows, rate 0.016": FIRST.but(method="adam", batch_rows=2048, learning_rate=0.016),
    "adam, 1024 rows, rate 0.008": FIRST.but(method="adam", batch_rows=1024, learning_rate=0.008),
    "momentum, 1024 rows, rate 0.3": FIRST.but(method="momentum", batch_rows=1024, learning_rate=0.3),
    "sgd, 64 rows, rate 0.1": FIRST.but(method="sgd"),
    "sgd, 64 rows, rate 0.3": FIRST.but(method="sgd", learning_rate=0.3),
}
TINY = Experiment.of(hidden=(400, 150), init="tiny", max_iterations=20)
SADDLE = {
    "hf-bicgstab, tiny start": TINY.but(curvature_rows=2048),
    "gn-cg, tiny start": TINY.but(curvature_rows=2048, method="gn-cg"),
    "hf-steihaug, tiny start": TINY.but(curvature_rows=2048, method="hf-steihaug"),
    "momentum, tiny start": TINY.but(method="momentum"),
}
WHOLE = {"hf-bicgstab, all rows, 4096 curvature rows": DEEP.but(curvature_rows=4096, target_error=0.02)}
FIGURES = ("one", "three", "saddle")


def tables(options: argparse.Namespace) -> dict[str, str]:
    """Carry out what is missing; the table of the runs and those of the figures that have been made."""

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    small = material(FigureOptions(options.store, options.out), say)
    series: list[Series] = []
    for store, folder, experiments in (
        (small, "runs", SMALL | SADDLE),
        (open_store(options.store), "runs-all-rows", WHOLE),
    ):
        lab = Laboratory(store, options.out / folder, options.cluster, say)
        series += [carry_out(lab, name, experiment, options.seeds) for name, experiment in experiments.items()]
    named = {one.name: one for one in series}
    found = {"claims": claims.table(named), "runs": results([one for one in series if one.name not in SADDLE])}
    for name in FIGURES:
        path = options.out / f"{name}.md"
        if path.exists():
            found[name] = path.read_text().split("\n\n")[0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cluster", default="none")
    parser.add_argument("--write", type=Path, help="a Markdown file with the markers")
    options = parser.parse_args()
    try:
        found = tables(options)
    except HfnumbaError as error:
        sys.exit(f"error: {error}")
    print(found["claims"], found["runs"], sep="\n\n")
    if options.write is not None:
        for name, table in found.items():
            insert(options.write, name, table)


if __name__ == "__main__":
    main()
