"""Extensions of Sphinx for this site: what the pages show is read from the code."""
