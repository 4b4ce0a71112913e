"""The command line: one file a verb. Functions that return data live elsewhere; here is format."""
