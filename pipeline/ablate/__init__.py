"""Ablations: many variants of the selector over one bag store, by one command, as one table.

`plan` reads which variants and seeds there are, `runs` gives every training its folder, `lanes` spreads them over the
devices, `run` does it all, `results`, `table` and `plot` say what came out.
"""
