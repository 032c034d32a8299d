"""Files from the network: transferred, verified, listed."""
