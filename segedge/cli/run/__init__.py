"""`segedge run`: its options, what they open, and what is said at the end.

Imports what every verb has from `cli`, and the rooms whose options `run` has.
"""
