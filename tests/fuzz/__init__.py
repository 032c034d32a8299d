"""Seeded damage to everything that is read from a disk: `python -m tests.fuzz`, or `make fuzz`.

A kind of file is a module with a class (`Kind` in `driver.py`), and one line in KINDS in `__main__.py`.
"""
