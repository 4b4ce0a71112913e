"""Pages of HTML with charts, and tables of text; made of strings alone.

What they say is others' business; imports nothing.
"""
