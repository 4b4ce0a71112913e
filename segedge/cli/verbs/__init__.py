"""The other verbs, one file each: options in, one call, a table or JSON out.

Imports what every verb has from `cli`; what a verb does lives in its own room.
"""
