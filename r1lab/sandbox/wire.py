"""What host, fork server and child write to each other: fixed binary heads, never pickled objects.
Standard library only: the fork server imports it too."""

import struct

#: Host to server, with the socket of one program: cpu, wall, memory, output, disk (see `Limits`).
TOLD = struct.Struct("<ddQQQ")
#: Server to host: exit code (negative: a signal), why it was killed, cpu, wall, peak memory.
ENDED = struct.Struct("<iBddQ")
WHY = ("", "cpu", "idle", "lost", "disk")  # lost: a failure of the sandbox
#: Child to host, before every payload: kind, number of the case, bytes of the payload.
HEADER = struct.Struct("<cII")
#: The exit code of a program that imports what its server has not: it is run again by one that has
#: all modules. Nothing is gained by exiting with it: what the first run said is thrown away.
ELSEWHERE = 94
#: A child that still runs after `wall` so many times is lost: the machine stands still.
PATIENCE = 60
CHANNEL = 3  # the child's only descriptor besides /dev/null
