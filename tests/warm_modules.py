"""What the server of `tests.warm` loads: all that trains and scores."""

import evalkit.cli.main
import evalkit.run.folders
import evalkit.run.runner
import evalkit.sweeps.run
import evalkit.tuning.run  # noqa: F401
