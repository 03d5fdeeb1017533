"""The paper's claims in miniature, by one command: ``thyme reproduce``. See docs/reproduction.md.

`plan` says which steps there are, `graph` which of them are done, `runner` does the others, `claims` judges by rules
that were written down before anything ran, and `report` writes what came out. No figure is written by hand.
"""
