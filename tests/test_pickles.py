"""The interpreter of pickles: values as Python's unpickler makes them, and nothing else."""
import io
import os
import pickle

import pytest

from gluon_fgvc import pickles

TEXTS = {'BINBYTES', 'SHORT_BINBYTES', 'BINFLOAT'}


class Point:
    def __init__(self, *args):
        self.args, self.state = args, None

    def build(self, state):
        self.state = state


def read(data, opcodes=(), names=(), steps=1000):
    dialect = pickles.Dialect('points', pickles.COMMON | set(opcodes), dict(names), steps)
    return pickles.load(pickles.Bounded(io.BytesIO(data), len(data)), dialect)


SAME = ['x', 'ü', '', 0, -1, 255, 65536, -(1 << 40), True, None, 1.5, b'bytes', (), (1,), (1, 2), (1, 2, 3),
        (1, 2, 3, 4), [], [1], [1, 2], {}, {'a': 1}, {'a': [1, (2, {3: 'b'})], 7: {'c': None}}]


@pytest.mark.parametrize('value', SAME)
@pytest.mark.parametrize('protocol', [3, 4, 5])
def test_values_are_what_python_makes_of_them(value, protocol):
    assert read(pickle.dumps([value, value], protocol), TEXTS) == [value, value]


def test_what_is_one_object_stays_one():
    shared = [1]
    first, second = read(pickle.dumps((shared, shared), 4))
    assert first is second == [1]


NAMED = b'\x80\x02cfar.away\nPoint\n'


def test_a_name_on_the_list_stands_for_a_function_of_ours():
    point = read(NAMED + b'K\x01K\x02\x86R}K\x03K\x04sb.', names={'far.away.Point': Point})
    assert isinstance(point, Point) and point.args == (1, 2) and point.state == {3: 4}
    name = read(NAMED + b'.', names={'far.away.Point': None})
    assert name == pickles.Name('far.away.Point', None)


@pytest.mark.parametrize('data, says', [
    (NAMED + b'.', "asks for 'far.away.Point', which is not needed for points and is refused for safety"),
    (b'\x80\x04\x8c\x02os\x8c\x06system\x93.', "asks for 'os.system'"),
    (b'\x80\x02)\x8c\x06system\x93.', 'name that is no text'),
    (pickle.dumps(b'x', 4), 'uses the pickle instruction SHORT_BINBYTES, which points do not need'),
    (pickle.dumps(1.5, 4), 'instruction BINFLOAT'), (b'\x80\x02K\x01Q.', 'instruction BINPERSID'),
    (b'\x80\x02]' + b'0' * 9 + b'.', 'instruction POP'), (b'I1\n.', 'instruction INT'),
    (b'\x80\x02K\x01K\x02\x85R.', 'call of something else'), (b'\x80\x02}K\x01b.', 'attributes for something'),
    (b'\x80\x02K\x01K\x02a.', 'elements for something'), (b'\x80\x02]K\x01K\x02s.', 'items for something'),
    (b'\x80\x02})K\x01s.', 'dictionary key of type tuple'), (b'\x80\x02' + b']' * 2000 + b'.', 'more than 1000 steps'),
    (b'', 'is no pickle'), (b'\x80\x02]', 'is no pickle'), (b'\x80\x02t.', 'is no pickle'),
    (b'\x80\x02X\xff\xff\xff\x7f.', 'is no pickle'), (b'\x80\x02h\x07.', 'is no pickle')])
def test_anything_else_is_refused(data, says):
    with pytest.raises(pickles.Refused, match=says):
        read(data)


def test_a_function_that_is_not_called_cannot_be():
    with pytest.raises(pickles.Refused, match='call of something else'):
        read(NAMED + b')R.', names={'far.away.Point': None})


def test_nothing_is_executed(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'harm'),)
    for protocol in range(6):
        with pytest.raises(pickles.Refused):
            read(pickle.dumps(Harm(), protocol), TEXTS)
    assert not (tmp_path / 'harm').exists()
