"""The command line: one file a verb. Functions that return data live elsewhere; here is format.

Knows words, options and the terminal; imports everything, and is imported by nothing.
"""
