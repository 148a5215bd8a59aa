"""How the threads of a command wait for each other: spinning where the cores are free, asleep where they are not.

Measured on two cores with the bundled model. Beside a load of ten, one edit took 82 to 96 s with threads that spin, and
18 to 23 s with threads that sleep. On free cores sleeping costs the small model time, because its loops are short.
"""

import os


def wait_politely() -> None:
    """Choose before PyTorch is loaded, unless somebody has chosen; where the load is unknown, leave it as it is."""
    cores = os.cpu_count() or 1
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > cores / 2:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
