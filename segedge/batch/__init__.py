"""Archives: many files to masks, overlays and one table, on one machine or a Ray cluster.

Knows files, parts and their ledger; a worker is a `pipeline` of its own. Imports everything up to
that.
"""
