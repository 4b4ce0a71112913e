"""Which precision on which backend: candidates, their accuracy and speed, and the one to take.

The guard of int8, too; imports `bench`, `evaluate`, `precision` and `engine`.
"""
