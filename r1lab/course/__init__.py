"""The course: profiles, the runner of the lessons, seeds, the README's tables, the book."""

import sys
from contextlib import suppress

if "jsonschema" not in sys.modules:
    # nbformat imports jsonschema, and that compiles a grammar of IRIs, if it is there: 1.3 s at
    # each start, for a check that no notebook asks for. Everyone else may import it.
    sys.modules.setdefault("rfc3987_syntax", None)
    try:
        with suppress(ImportError):  # an environment for training alone has none
            import nbformat  # noqa: F401
    finally:
        if sys.modules["rfc3987_syntax"] is None:
            del sys.modules["rfc3987_syntax"]
