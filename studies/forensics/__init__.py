"""How large are the traps of the published quantizer and of its evaluation? Measured by `python -m studies.forensics`.

Each trap is a function that returns a `Trap` (trap.py). What the published code does is written here in its smallest
form, as a description to measure and for nothing else; the other side is always the function evalkit itself uses.
Sources: the repositories tashQ/Q2D2 (arXiv 2512.01537) and jishengpeng/WavTokenizer, as read in November 2026.
"""
