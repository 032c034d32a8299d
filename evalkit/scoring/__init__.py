"""From a pair of signals to scores: pairing files, the protocol, worker processes, the cache."""
