"""Harvest: the frames that a network is least sure of, kept while it runs, with its labels."""
