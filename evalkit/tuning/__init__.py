"""`evalkit tune`: which bottleneck is best at a target rate on the user's own audio, and is that sure."""
