"""Read pickles of strangers without executing anything that is in them.

A pickle is a program, and Python's unpickler would run any function it names. :func:`load` interprets instead: only
the instructions that a :class:`Dialect` lists, and of names only those on its list, which stand for functions of ours
and are looked up nowhere else. Whatever else is asked for is refused by name.
"""
import pickletools
from dataclasses import dataclass
from typing import Callable, FrozenSet, Mapping, Optional

LITERALS = frozenset(('BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT', 'BINUNICODE', 'SHORT_BINUNICODE',
                      'BINSTRING', 'SHORT_BINSTRING', 'BINBYTES', 'SHORT_BINBYTES'))
# What every kind of file needs: numbers, texts, containers, the memo, names and calls.
COMMON = frozenset((
    'PROTO', 'FRAME', 'STOP', 'MARK', 'NONE', 'NEWTRUE', 'NEWFALSE', 'BININT', 'BININT1', 'BININT2', 'LONG1',
    'BINUNICODE', 'SHORT_BINUNICODE', 'EMPTY_TUPLE', 'TUPLE', 'TUPLE1', 'TUPLE2', 'TUPLE3', 'EMPTY_LIST', 'APPEND',
    'APPENDS', 'EMPTY_DICT', 'SETITEM', 'SETITEMS', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE', 'BINGET', 'LONG_BINGET',
    'GLOBAL', 'STACK_GLOBAL', 'REDUCE', 'BUILD'))
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False, 'EMPTY_TUPLE': ()}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
_LINE = 1000  # bytes of a line, which holds two names at most; int() of millions of digits takes for ever


class Refused(Exception):
    """Why a pickle is not read, as what follows the name of its file."""


class UnknownName(Refused):
    """It asks for a function that is not on the list."""


@dataclass(frozen=True)
class Dialect:
    """What the pickles of one kind of file may say."""

    contents: str                          # what these files are made of, plural, for messages
    opcodes: FrozenSet[str]                # the instructions allowed, by their names in ``pickletools``
    names: Mapping[str, Optional[Callable]]  # 'module.name' → function of ours that is called in its place, None: none
    max_steps: int                         # instructions; each may allocate some 100 bytes


@dataclass(frozen=True)
class Name:
    """A name from the list of a dialect; ``function`` is what is called in its place, if it may be called."""

    name: str
    function: Optional[Callable]


class Bounded:
    """A stream of ``size`` bytes that looks at how many are left before it allocates what a length in it asks for."""

    def __init__(self, stream, size):
        self.stream, self.size, self.tell = stream, size, stream.tell

    def read(self, count):
        if not 0 <= count <= self.size - self.tell():
            raise Refused('is no pickle, truncated or damaged')
        return self.stream.read(count)

    def readline(self):
        return self.stream.readline(_LINE)


def check_key(key):
    """Return ``key`` if it is a text or a whole number: the hash of nested tuples can take for ever.

    :raises TypeError: if it is something else.
    """
    if not isinstance(key, (str, int)):
        raise TypeError(f'dictionary key of type {type(key).__name__}')
    return key


def load(stream, dialect, persistent=None):
    """Interpret one pickle from ``stream``, a :class:`Bounded`, and return its value.

    It is made of None, bool, int, float, str, bytes, tuples, lists, dicts, :class:`Name` and what the functions of
    ``dialect`` return; of these, only what has a method ``build(state)`` may be given attributes.

    :param persistent: identifier → value, for dialects with BINPERSID.
    :raises Refused: if the pickle is damaged, or asks for anything else.
    """
    machine = _Machine(dialect, persistent)
    try:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if step >= dialect.max_steps:
                raise Refused(f'has a pickle of more than {dialect.max_steps} steps')
            if opcode.name not in dialect.opcodes:
                raise Refused(f'uses the pickle instruction {opcode.name}, which {dialect.contents} do not need')
            if opcode.name == 'STOP':
                return machine.stack.pop()
            machine.do(opcode.name, argument)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Refused(f'is no pickle, truncated or damaged ({error})') from None
    raise Refused('is no pickle, truncated or damaged')


class _Machine:
    """The stack, the marks and the memo of the pickle machine."""

    def __init__(self, dialect, persistent):
        self.dialect, self.persistent = dialect, persistent
        self.stack, self.marks, self.memo = [], [], {}

    def do(self, name, argument):
        """Follow one instruction that the dialect allows."""
        stack = self.stack
        if name in LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ('BINPUT', 'LONG_BINPUT'):
            self.memo[argument] = stack[-1]
        elif name == 'MEMOIZE':
            self.memo[len(self.memo)] = stack[-1]
        elif name in ('BINGET', 'LONG_BINGET'):
            stack.append(self.memo[argument])
        elif name == 'MARK':
            self.marks.append(len(stack))
        elif name == 'TUPLE':
            stack.append(tuple(self.since_mark()))
        elif name in _TUPLES:
            items = tuple(stack[-_TUPLES[name]:])
            del stack[-_TUPLES[name]:]
            stack.append(items)
        elif name == 'EMPTY_DICT':
            stack.append({})
        elif name == 'EMPTY_LIST':
            stack.append([])
        elif name in ('SETITEM', 'SETITEMS'):
            self.set_items(self.since_mark() if name == 'SETITEMS' else [stack.pop(-2), stack.pop()])
        elif name in ('APPEND', 'APPENDS'):
            self.append(self.since_mark() if name == 'APPENDS' else [stack.pop()])
        elif name == 'GLOBAL':
            stack.append(self.name(*argument.split(' ', 1)))
        elif name == 'STACK_GLOBAL':
            attribute, module = stack.pop(), stack.pop()
            stack.append(self.name(module, attribute))
        elif name == 'BINPERSID':
            stack.append(self.persistent(stack.pop()))
        elif name == 'REDUCE':
            arguments, function = stack.pop(), stack.pop()
            stack.append(self.call(function, arguments))
        elif name == 'BUILD':
            self.build(stack.pop())
        elif name not in ('PROTO', 'FRAME'):
            raise ValueError(f'instruction {name}')

    def since_mark(self):
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def set_items(self, items):
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise TypeError('items for something else than a dictionary')
        for key, value in zip(items[::2], items[1::2]):
            target[check_key(key)] = value

    def append(self, items):
        if not isinstance(self.stack[-1], list):
            raise TypeError('elements for something else than a list')
        self.stack[-1].extend(items)

    def name(self, module, attribute):
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise TypeError('name that is no text')
        name = f'{module}.{attribute}'
        if name not in self.dialect.names:
            raise UnknownName(f"asks for '{name}', which is not needed for {self.dialect.contents} and is refused for "
                              'safety')
        return Name(name, self.dialect.names[name])

    def call(self, function, arguments):
        if not isinstance(function, Name) or function.function is None or not isinstance(arguments, tuple):
            raise TypeError('call of something else than a function')
        return function.function(*arguments)

    def build(self, state):
        if not hasattr(self.stack[-1], 'build'):
            raise TypeError('attributes for something that has none')
        self.stack[-1].build(state)
