"""The course: profiles, the runner of the lessons, seeds, the README's tables, the book."""

import sys

# nbformat imports jsonschema, and that compiles a grammar of IRIs, if it is there: 1.3 s at each
# start, for a check that no notebook asks for.
sys.modules.setdefault("rfc3987_syntax", None)
