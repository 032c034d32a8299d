"""What was measured once, and can be measured again: not part of what is installed."""
