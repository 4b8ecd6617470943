"""Tables of the pages, and whether the code that they measure has changed since they were made.

    python benchmarks/tables.py

Comments and docstrings do not count as changes. Tables of before records were kept are "not recorded".
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pages import ROOT, UNKNOWN, Record, code_digest, marked

from hfnumba.figures.summary import markdown

EMPTY, NOT_RECORDED, CURRENT = "empty", "not recorded", "current"


def tables(root: Path = ROOT) -> Iterator[tuple[Path, str, Record | None]]:
    """Yield page, name and record of each table that a script makes; None without a record."""
    for page in [root / "README.md", *sorted(root.glob("docs/**/*.md"))]:
        text = page.read_text("utf-8")
        for name in re.findall(r"<!-- (\S+): begin -->", text):
            between = text.split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0]
            yield page, name, Record.find(between)


def state(page: Path, name: str, record: Record | None) -> str:
    """Say whether a table is as old as its code."""
    if not marked(page, name):
        return EMPTY
    if record is None:
        return NOT_RECORDED
    unknown = [path for path, digest in record.code.items() if digest == UNKNOWN]
    changed = [path for path, digest in record.code.items() if digest not in (UNKNOWN, code_digest(path))]
    parts = [f"older than {', '.join(changed)}"] if changed else []
    parts += [f"results older than {', '.join(unknown)}"] if unknown else []
    return "; ".join(parts) or CURRENT


def main() -> None:
    """Print the list."""
    rows = [
        [
            page.relative_to(ROOT).as_posix(),
            name,
            *(("–", "–") if record is None else (f"`{record.command}`", f"{record.version}, {record.day}")),
            state(page, name, record),
        ]
        for page, name, record in tables()
    ]
    print(markdown(["page", "table", "made by", "with", "state"], rows))


if __name__ == "__main__":
    main()
