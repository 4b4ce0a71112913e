"""Where frames come from and where results go: sources, sinks, and the files behind them.

Here: formats, FFmpeg and memory; imports `frames` only. Each folder below is a room of its own.
"""
