"""Q2D2 and the codec it sits in; needs nothing of the benchmark harness.

Importing this package loads no tensor library: take what you need from its modules, such as `q2d2.bottleneck`,
`q2d2.tilings` or `q2d2.codec`.
"""

__version__ = "0.1.0"
