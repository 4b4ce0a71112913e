"""What lies in ``simulated/`` needs the simulated driver: test_simulated.py runs it in a child."""

import os

collect_ignore_glob = [] if os.environ.get("SIMCUDA") else ["simulated/*"]
