"""How fast a model is here: measured, with its spread, its environment and what it includes.

Starts a process a contender, joins their figures and shows them; imports everything up to
`pipeline`.
"""
