"""A run: its experiment, its plan, its systems, what it writes and how that is read again."""
