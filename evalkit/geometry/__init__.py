"""What tilings give before anything is trained: exact error, rate and use of their codes for known sources."""
