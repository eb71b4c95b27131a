"""Mathematical answers: `compare` says whether two are equal, `votes` gives equal ones one key."""
