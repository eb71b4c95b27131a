"""Values as canonical bytes: the form in which answers leave a program, and are compared.

Two values are equal if and only if their bytes are. The program's process encodes what it returns,
the host encodes what it expects, and compares: it decodes nothing that a hostile program has made,
and no `__eq__` of the program's is ever called. Standard library only: the fork server imports it.

    None N   True T   False F   int i<hex>;   float f<16 hex digits>   complex c<float><float>
    str s<bytes>:<utf-8>   bytes b<bytes>:<bytes>   bytearray a<bytes>:<bytes>
    list [...]   tuple (...)   set {...}   frozenset <...>   dict d<key><value>...;
    anything else o<bytes>:<name of its type>, which equals nothing

Only values of exactly these types have an encoding of their own: an int subclass is "anything
else". Sets and dicts are sorted by the encoding of their elements and keys.
"""

import math
import re
import struct
from collections import Counter, OrderedDict, defaultdict

#: strict: True is not 1, and 1.0 is not 1, but where a float is expected an int is taken, and a
#: relative or absolute error of 1e-9. python: as `==` has it (True == 1 == 1.0, a Counter is a
#: dict, no tolerance): for comparison with published figures of HumanEval and MBPP.
NUMBERS = ("strict", "python")
TOLERANCE = 1e-9
_BRACKETS = {list: b"[]", tuple: b"()", set: b"{}", frozenset: b"<>"}
_DICTS = (Counter, OrderedDict, defaultdict)


class TooLong(Exception):
    """The encoding is longer than it may be."""


def encode(
    value, numbers: str = "strict", most: int = 1 << 20, floats: list | None = None
) -> bytes:
    """The canonical bytes of a value. floats: gets the position of every float that `matches` may
    compare with a tolerance (those in sets and keys decide the order, so they must be exact).

    Raises TooLong beyond `most` bytes, RecursionError where it nests too deeply or in a circle."""
    parts, size = [], 0

    def put(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        if size > most:
            raise TooLong(f"more than {most} bytes")
        parts.append(piece)

    def walk(x, loose: bool) -> None:
        kind = type(x)
        if numbers == "python":
            if kind is bool:
                x, kind = int(x), int
            elif kind is float and x.is_integer():
                x, kind = int(x), int
            elif kind is frozenset:
                kind = set
            elif kind in _DICTS:
                kind = dict
        if x is None:
            put(b"N")
        elif kind is bool:
            put(b"T" if x else b"F")
        elif kind is int:
            put(b"i%x;" % x)
        elif kind is float:
            if loose and floats is not None and numbers == "strict":
                floats.append(size)
            put(b"f%016x" % int.from_bytes(struct.pack(">d", x), "big"))
        elif kind is complex:
            put(b"c")
            walk(x.real, loose)
            walk(x.imag, loose)
        elif kind is str:
            text = x.encode("utf-8", "surrogatepass")
            put(b"s%d:" % len(text))
            put(text)
        elif kind is bytes or kind is bytearray:
            put((b"b%d:" if kind is bytes else b"a%d:") % len(x))
            put(bytes(x))
        elif kind is list or kind is tuple:
            put(_BRACKETS[kind][:1])
            for one in x:
                walk(one, loose)
            put(_BRACKETS[kind][1:])
        elif kind is set or kind is frozenset:
            put(_BRACKETS[kind][:1])
            for one in sorted(encode(one, numbers, most - size) for one in x):
                put(one)
            put(_BRACKETS[kind][1:])
        elif kind is dict:
            put(b"d")
            keys = [(encode(key, numbers, most - size), key) for key in dict.keys(x)]
            for encoded, key in sorted(keys, key=lambda pair: pair[0]):
                put(encoded)
                walk(dict.__getitem__(x, key), loose)
            put(b";")
        else:
            name = kind.__name__[:100].encode("utf-8", "replace")
            put(b"o%d:" % len(name))
            put(name)

    walk(value, True)
    return b"".join(parts)


class Expected:
    """An expected value, ready to be compared with what programs answer.

    Raises TypeError if the value is none that a program could return."""

    def __init__(self, value, numbers: str = "strict", text: bool = False) -> None:
        """text: it is what a program prints."""
        floats: list[int] = []
        value = printed(value) if text else value
        self.bytes = encode(value, numbers, 1 << 30, floats)
        check(value)
        # the bytes between the floats, and the floats
        edges = [0, *(edge for at in floats for edge in (at, at + 17)), len(self.bytes)]
        pieces = [self.bytes[a:b] for a, b in zip(edges, edges[1:], strict=False)]
        self.exact, self.floats = pieces[::2], [_number(piece) for piece in pieces[1::2]]

    def matches(self, answer: bytes) -> bool:
        """Whether the answer's bytes are those of the expected value, floats within TOLERANCE: one
        walk from left to right, reading a number where a float is expected and nothing else."""
        if answer == self.bytes:
            return True
        at = len(self.exact[0])
        if not self.floats or answer[:at] != self.exact[0]:
            return False
        for want, exact in zip(self.floats, self.exact[1:], strict=True):
            found = _NUMBER.match(answer, at)
            if found is None or not _close(_number(found[0]), want):
                return False
            at = found.end() + len(exact)
            if answer[found.end() : at] != exact:
                return False
        return at == len(answer)


_NUMBER = re.compile(rb"f[0-9a-f]{16}|i-?[0-9a-f]{1,256};")  # 256: what a float can be as an int


def _number(token: bytes) -> float:
    if token[:1] == b"f":
        return struct.unpack(">d", bytes.fromhex(token[1:].decode()))[0]
    try:
        return float(int(token[1:-1], 16))
    except OverflowError:
        return math.nan


def _close(got: float, want: float) -> bool:
    if math.isnan(want):
        return math.isnan(got)
    return math.isclose(got, want, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def printed(text: str) -> str:
    """What a program prints, without spaces at the ends of lines and of the text."""
    if type(text) is not str:
        raise TypeError("what a program prints is a text")
    return "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n")


def check(value) -> None:
    """TypeError if there is anything in the value that is not plain."""
    todo = [value]
    while todo:
        x = todo.pop()
        kind = type(x)
        if kind in (list, tuple, set, frozenset):
            todo.extend(x)
        elif kind is dict:
            todo.extend(x.keys())
            todo.extend(x.values())
        elif x is not None and kind not in (bool, int, float, complex, str, bytes, bytearray):
            raise TypeError(f"{kind.__name__} is not a plain built-in type")


def decode(data: bytes, depth: int = 100, entries: int = 10_000):
    """The value that has these bytes, for `Sandbox.run`; "anything else" is an Opaque.

    Reads them once, runs nothing of them, and raises ValueError if they are no encoding, nest
    deeper than `depth`, or hold a set or dict of more than `entries` (whose hashes may collide)."""
    at = 0

    def take(pattern) -> bytes:
        nonlocal at
        found = pattern.match(data, at)
        if found is None:
            raise ValueError("no canonical bytes")
        at = found.end()
        return found[0]

    def many(end: bytes, left: int) -> list:
        nonlocal at
        found = []
        while data[at : at + 1] != end:
            found.append(value(left - 1))
        at += 1
        return found

    def value(left: int):
        nonlocal at
        if left < 0:
            raise ValueError(f"nested deeper than {depth}")
        kind = data[at : at + 1]
        at += 1
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        if kind == b"i":
            return int(take(_HEX)[:-1], 16)
        if kind == b"f":
            return struct.unpack(">d", bytes.fromhex(take(_FLOAT).decode()))[0]
        if kind == b"c":
            real, imaginary = value(0), value(0)
            if type(real) is not float or type(imaginary) is not float:
                raise ValueError("no complex number")
            return complex(real, imaginary)
        if kind and kind in b"sbao":
            size = int(take(_LENGTH)[:-1])
            raw = data[at : at + size]
            at += size
            if len(raw) != size:
                raise ValueError("cut short")
            if kind == b"s":
                return raw.decode("utf-8", "surrogatepass")
            if kind == b"o":
                return Opaque(raw.decode("utf-8", "replace"))
            return raw if kind == b"b" else bytearray(raw)
        if kind == b"[":
            return many(b"]", left)
        if kind == b"(":
            return tuple(many(b")", left))
        if kind and kind in b"{<d":
            found = many({b"{": b"}", b"<": b">", b"d": b";"}[kind], left)
            if len(found) > 2 * entries:
                raise ValueError(f"more than {entries} entries")
            try:
                if kind == b"d":
                    return dict(zip(found[::2], found[1::2], strict=True))
                return set(found) if kind == b"{" else frozenset(found)
            except TypeError as error:
                raise ValueError(str(error)) from None
        raise ValueError("no canonical bytes")

    found = value(depth)
    if at != len(data):
        raise ValueError("more than one value")
    return found


_CONSTANTS = {b"N": None, b"T": True, b"F": False}
_HEX, _FLOAT, _LENGTH = (re.compile(p) for p in (rb"-?[0-9a-f]+;", rb"[0-9a-f]{16}", rb"\d{1,9}:"))


class Opaque:
    """A value that was not plain: the name of its type. Equals nothing but itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"
