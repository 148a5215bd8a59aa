"""`ledits studio`: the page that edits pictures in the browser, served by the application of `ledits.server`.

The page itself is static/: HTML, a style sheet and ES modules, sent as they lie there. `page` tells it what there is to
edit with, `waiting` serves it while the models are loaded.
"""

from pathlib import Path

STATIC = Path(__file__).parent / "static"
