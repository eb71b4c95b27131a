"""Give each name a password: passwords.py TABLE NAME ...   (in the hub's state folder, by setup.sh)

Into passwords.dbm go bcrypt hashes, which the hub's FirstUseAuthenticator reads: with one for every
account nobody can choose it by being the first to log in. TABLE, for the instructor alone, gets
the words. Who has a password keeps it.
"""

import dbm
import os
import secrets
import sys

import bcrypt

table, names = sys.argv[1], sys.argv[2:]
os.umask(0o077)
with dbm.open("passwords.dbm", "c", 0o600) as known, open(table, "a", encoding="utf-8") as file:
    for name in names:
        if name.encode() not in known:
            password = secrets.token_urlsafe(12)
            known[name] = bcrypt.hashpw(password.encode(), bcrypt.gensalt())
            file.write(f"{name},{password}\n")
