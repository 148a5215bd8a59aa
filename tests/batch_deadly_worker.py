"""A worker that is killed by the picture whose name is its argument, as one that takes too much memory would be."""

import os
import signal
import sys
from typing import Any

from ledits.batch import work, worker

DEADLY = sys.argv[1]
_invert = work.Worker._checked


def _checked(self: Any, jobs: Any) -> Any:
    if jobs[0].picture.endswith(DEADLY):
        os.kill(os.getpid(), signal.SIGKILL)
    return _invert(self, jobs)


work.Worker._checked = _checked
worker.main()
