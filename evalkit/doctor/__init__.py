"""`evalkit doctor` and `evalkit weights`: what can run on this machine, and getting what is missing."""
