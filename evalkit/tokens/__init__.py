"""Token files: `evalkit encode` and `evalkit decode`."""
