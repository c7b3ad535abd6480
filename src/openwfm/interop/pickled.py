"""Pickles read as plain data: a small machine of its own that calls and imports nothing.

`pickle` builds whatever a file names. Here a name stays a name (`Name`), an object of a class is an
inert `Record` of its attributes, and the few functions that hold data together (tensors, typed
lists) are recognised by name and carried out by the caller. Everything else is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Call = Callable[[str, Sequence[Any]], Any]
_MARK = object()
_PUSH_ARGUMENT = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "SHORT_BINSTRING", "BINSTRING"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PUT = {"BINPUT", "LONG_BINPUT"}
_GET = {"BINGET", "LONG_BINGET"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class Name:
    """A class or function that the file names, for instance ``torch FloatStorage``."""

    name: str


@dataclass(eq=False)
class Record:
    """An object of some class: its attributes, or its state where that is no dictionary."""

    kind: str
    attributes: dict[str, Any] = field(default_factory=dict)
    state: Any = None


def read_pickle(data: bytes, call: Call) -> Any:
    """The value in ``data``.

    ``call(name, arguments)`` gives the value of a function that the file calls, or raises
    ValueError to refuse it; persistent references arrive as a call of ``persistent``. Raises
    ValueError for anything that this reader does not know, and for a damaged pickle.
    """
    machine = _Machine(call)
    try:
        for code, argument, _ in pickletools.genops(data):
            machine.step(code.name, argument)
            if code.name == "STOP":
                return machine.pop()
    except (LookupError, TypeError, ArithmeticError, RuntimeError, UnicodeDecodeError) as error:
        raise ValueError(f"a damaged pickle ({error!r})") from error
    raise ValueError("a pickle without an end")


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, call: Call) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.call = call

    def pop(self) -> Any:
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def step(self, code: str, argument: Any) -> None:
        stack = self.stack
        if code in _PUSH_ARGUMENT:
            stack.append(argument)
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code == "GLOBAL":
            stack.append(Name(argument))
        elif code == "STACK_GLOBAL":
            name = self.pop()
            stack.append(Name(f"{self.pop()} {name}"))
        elif code in _PUT:
            self.memo[argument] = stack[-1]
        elif code == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif code in _GET:
            stack.append(self.memo[argument])
        elif code not in ("PROTO", "FRAME", "STOP"):
            self.build(code)

    def build(self, code: str) -> None:
        stack = self.stack
        if code == "MARK":
            stack.append(_MARK)
        elif code == "TUPLE":
            stack.append(tuple(self.pop_mark()))
        elif code in _TUPLES:
            stack.append(tuple(reversed([self.pop() for _ in range(_TUPLES[code])])))
        elif code == "EMPTY_LIST":
            stack.append([])
        elif code == "EMPTY_DICT":
            stack.append({})
        elif code == "APPEND":
            item = self.pop()
            list.append(stack[-1], item)
        elif code == "APPENDS":
            items = self.pop_mark()
            list.extend(stack[-1], items)
        elif code == "SETITEM":
            value, key = self.pop(), self.pop()
            dict.update(stack[-1], {key: value})
        elif code == "SETITEMS":
            pairs = self.pop_mark()
            dict.update(stack[-1], zip(pairs[0::2], pairs[1::2], strict=True))
        else:
            self.make(code)

    def make(self, code: str) -> None:
        """Objects and calls, which `pickle` would carry out."""
        if code == "NEWOBJ":
            arguments, kind = self.pop(), self.pop()
            if not isinstance(kind, Name) or arguments != ():
                raise ValueError(f"makes an object of {kind} from {len(arguments)} arguments")
            self.stack.append(Record(kind.name))
        elif code == "BUILD":
            state, record = self.pop(), self.stack[-1]
            if isinstance(record, dict):
                return  # the attributes of an OrderedDict, such as `_metadata` of a state dict
            if not isinstance(record, Record):
                raise ValueError(f"changes a {type(record).__name__}: only objects have a state")
            if isinstance(state, dict):
                record.attributes = {str(name): value for name, value in state.items()}
            else:
                record.state = state
        elif code == "BINPERSID":
            self.stack.append(self.call("persistent", self.pop()))
        elif code == "REDUCE":
            arguments, function = self.pop(), self.pop()
            if not isinstance(function, Name):
                raise ValueError(f"calls a {type(function).__name__}")
            self.stack.append(self.call(function.name, arguments))
        else:
            raise ValueError(f"pickle instruction {code}: not one that data needs")
