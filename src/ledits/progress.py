"""A bar of progress in notebooks and terminals, where somebody looks on."""

import sys
import warnings
from collections.abc import Callable
from typing import Any

Progress = Callable[[int, int], None]  # (done, of how many); raising in it stops the work


class Bar:
    """tqdm's bar as a `Progress`: it appears with the first step and ends with the last."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, desc=self._what, leave=False)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self.close()

    def close(self) -> None:
        """Also where the work was stopped halfway."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def in_notebook() -> bool:
    """Whether a notebook runs this."""
    return "ipykernel" in sys.modules


def accept_text() -> None:
    """Import tqdm's bar for notebooks, here or in any library, without its warning that ipywidgets are missing."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # The bar is one of text then, which will do.
        warnings.simplefilter("ignore", TqdmWarning)
        import tqdm.auto  # noqa: F401  # pyright: ignore[reportUnusedImport]


def shown(progress: Progress | bool | None, what: str) -> Progress | None:
    """Who is told of progress: a callable, a bar for True, nobody for False; None is a bar in a notebook alone."""
    if progress is None:
        progress = in_notebook()
    if isinstance(progress, bool):
        return Bar(what) if progress else None
    return progress
