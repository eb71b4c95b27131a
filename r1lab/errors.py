"""The one exception that r1lab raises on purpose."""


class R1LabError(Exception):
    """Something the user can put right; the message is one line that says what to do.

    The command line prints the message alone and exits with status 2. Anything else that
    reaches the user as a traceback is a bug of ours.
    """
