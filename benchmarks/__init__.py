"""Speed and memory as ratios against a stated baseline measured in the same run: `python -m benchmarks.NAME`."""
