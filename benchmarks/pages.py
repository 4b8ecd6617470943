"""Tables of Markdown pages, between the markers ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``."""

from pathlib import Path


def marked(page: Path, name: str) -> str:
    """Return the text between the markers."""
    return _split(page, name)[1].strip()


def insert(page: Path, name: str, table: str) -> None:
    """Replace the text between the markers by a table."""
    before, _, after = _split(page, name)
    page.write_text(f"{before}\n{table.strip()}\n{after}", "utf-8")


def publish(table: str, page: Path | None, name: str) -> None:
    """Print a table, or, if a page is given, insert it there."""
    if page is None:
        print(table)
    else:
        insert(page, name, table)


def _split(page: Path, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = page.read_text("utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"error: expected {begin} and {end} once each in {page}")
    before, rest = text.split(begin)
    between, after = rest.split(end)
    return before + begin, between, end + after
