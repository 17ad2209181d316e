"""Damage weight files in many ways and load them: python mutated_checkpoints.py FIRST COUNT FOLDER.

A process of its own, so that a crash would be seen, whose address space can hardly grow, and which notes every event
of Python's audit that running what a file holds would cause. Case k is the same every time. Prints a JSON object: how
many were 'loaded' and 'refused', 'problems' (a list, which should be empty), and 'peak': what was allocated at most,
as a share of 4 times the file and 128 kB.
"""
import io
import json
import os
import re
import resource
import struct
import sys
import tracemalloc
import zipfile

import numpy as np
from mxnet.gluon import nn

from gluon_fgvc.backbones import loading
from gluon_fgvc.backbones.base import Backbone, Naming
from gluon_fgvc.errors import UserError
from gluon_fgvc.weights import dump_params, dump_safetensors, load

FILES = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'files')
FORMATS = ('legacy', 'zip', 'safetensors', 'params')
HUGE = (-1, 0, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 40, 1 << 62, (1 << 64) - 1)
FIXED = 128 << 10  # bytes, for what does not depend on the file
ROOM = 64 << 20    # bytes of address space that damage may add
FORBIDDEN = re.compile(r'os\.(system|exec|fork|posix_spawn|spawn|putenv|remove|rename|mkdir|symlink)|subprocess\.Popen'
                       r'|pickle\.find_class|socket\..*|shutil\..*|ctypes\.dlopen|code\.__new__')


def victim():
    """Return a small backbone and the namings of its files."""
    conv1, bn1 = nn.Conv2D(16, 3, in_channels=3, use_bias=False), nn.BatchNorm(in_channels=16)
    conv2 = nn.Conv2D(16, 3, 2, in_channels=16, use_bias=False)
    backbone = Backbone('tiny', [conv1, bn1], [[conv2]])
    backbone.initialize()
    torch = Naming('torch', {'conv1.weight': conv1.weight, 'bn1.weight': bn1.gamma, 'bn1.bias': bn1.beta,
                             'bn1.running_mean': bn1.running_mean, 'bn1.running_var': bn1.running_var,
                             'conv2.weight': conv2.weight}, ('fc.weight', 'fc.bias'), r'.*\.num_batches_tracked')
    return backbone, (backbone.naming(), torch)


def whole_files(backbone):
    """Return dict of format → bytes of an undamaged file."""
    files = {}
    for name in ('legacy', 'zip'):
        with open(os.path.join(FILES, f'tiny_{name}.pth'), 'rb') as stream:
            files[name] = stream.read()
    files['safetensors'] = dump_safetensors(load(os.path.join(FILES, 'tiny_zip.pth')))
    files['params'] = dump_params({name: parameter.data().asnumpy()
                                   for name, parameter in backbone.naming().parameters.items()})
    return files


# --- damage: bytes and a random stream in, bytes out -------------------------------------------

def somewhere(rng, data):
    """A position: half of them in the first or last kilobyte, where the structure is."""
    front, back = min(len(data), 1000), max(len(data) - 1000, 0)
    return int(rng.choice([rng.randint(len(data)), rng.randint(len(data)), rng.randint(front),
                           rng.randint(back, len(data))]))


def truncate(rng, data):
    return data[:somewhere(rng, data)]


def flip(rng, data):
    data = bytearray(data)
    for _ in range(rng.randint(1, 9)):
        data[somewhere(rng, data)] ^= 1 << rng.randint(8)
    return bytes(data)


def overwrite(rng, data):
    at = somewhere(rng, data)
    return data[:at] + rng.bytes(rng.randint(1, 64)) + data[at + rng.randint(64):]


def repeat(rng, data):
    start, end = sorted((somewhere(rng, data), somewhere(rng, data)))
    return data[:end] + data[start:end][:20_000] + data[end:]


def enlarge(rng, data):
    """Put a huge or negative number in the place of one."""
    at, size = somewhere(rng, data), rng.choice([4, 8])
    return data[:at] + struct.pack('<Q', HUGE[rng.randint(len(HUGE))] % (1 << 64))[:size] + data[at + size:]


def program(rng, data):
    """Put pickle instructions that run a command, or single instructions, into the file."""
    command = b'touch executed'
    calls = [b'cos\nsystem\n(X' + struct.pack('<I', len(command)) + command + b'tR.',
             b'cposix\nsystem\nX' + struct.pack('<I', len(command)) + command + b'\x85R0',
             b'(S\'touch executed\'\nios\nsystem\n.',
             b'c__builtin__\neval\n(X' + struct.pack('<I', 4) + b'1//0tR.',
             b'\x8c\x02os\x8c\x06system\x93\x8c\x0etouch executed\x85R.',
             b'cbuiltins\nexec\n', b'ctorch._utils\n_rebuild_tensor_v2\n', b'\x82\x01', b'\x81', b'b', b'R', b'Q',
             b'r\xff\xff\xff\xff', b'\x8e' + struct.pack('<Q', 1 << 60), b'\x95' + struct.pack('<Q', 1 << 60),
             b'I' + b'9' * 5000 + b'\n', b'(' * 3000, b'2' * 3000]
    text, places = calls[rng.randint(len(calls))], [somewhere(rng, data)]
    places += [found.start() for found in re.finditer(rb'ccollections|ctorch|\x80\x02', data)]
    at = places[rng.randint(len(places))]
    return data[:at] + text + data[at + rng.choice([0, len(text)]):]


def rename(rng, data):
    """Put another function or storage in the place of one that a torch file names."""
    names = [found.span() for found in re.finditer(rb'c([a-z._]+\n[A-Za-z_0-9]+)\n', data)]
    if not names:
        return flip(rng, data)
    start, end = names[rng.randint(len(names))]
    others = [b'os\nsystem', b'builtins\nexec', b'torch\nDoubleStorage', b'torch\nByteStorage',
              b'torch.serialization\nload', b'numpy.core.multiarray\nscalar', b'torch._utils\n_rebuild_parameter',
              b'collections\nOrderedDict']
    return data[:start] + b'c' + others[rng.randint(len(others))] + b'\n' + data[end:]


def repack(rng, data):
    """Write the zip archive anew with entries of other names, twice, compressed or linked."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    index = rng.randint(len(entries))
    name, content = entries[index]
    tricks = ['../../executed', '/tmp/executed', 'tiny_zip/../../executed', 'tiny_zip\\data.pkl', '', 'a' * 60_000,
              'data.pkl', 'x/data.pkl', 'tiny_zip/data/0', 'tiny_zip/data.pkl', 'tiny_zip/data/../data.pkl',
              'tiny_zip/byteorder', name.upper(), name + '/']
    trick, kind = tricks[rng.randint(len(tricks))], rng.randint(4)
    if kind == 0:
        entries[index] = (trick, content)
    elif kind == 1:
        entries.append((trick, content))
    elif kind == 2:
        entries.append((trick, bytes(3 << 20)))  # deflated to three kilobytes
    else:
        entries[index] = (name, program(rng, content) if content else b'big')
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, content in entries:
            info = zipfile.ZipInfo(name or 'empty')
            info.compress_type = zipfile.ZIP_DEFLATED if kind == 2 or rng.randint(8) == 0 else zipfile.ZIP_STORED
            info.external_attr = 0o120777 << 16 if rng.randint(8) == 0 else 0  # a symbolic link
            archive.writestr(info, content)
    return buffer.getvalue()


def header(rng, data):
    """Change the header of a safetensors file."""
    length, = struct.unpack('<Q', data[:8])
    entries = json.loads(data[8:8 + length])
    name = sorted(entries)[rng.randint(len(entries))]
    entry = entries[name]
    if name == '__metadata__':
        entries[name] = [{'format': 1}, [], {'x': 'y' * 100_000}, {'a': {'b': []}}][rng.randint(4)]
    else:
        kind, huge = rng.randint(6), HUGE[rng.randint(len(HUGE))]
        if kind == 0:
            entry['shape'][rng.randint(len(entry['shape'])) if entry['shape'] else slice(None)] = (
                huge if entry['shape'] else [huge])
        elif kind == 1:
            entry['data_offsets'][rng.randint(2)] = huge
        elif kind == 2:
            entry['dtype'] = ('F64', 'F16', 'BF16', 'I32', 'F8_E4M3', 'C64', 'U8', 'BOOL', '', 'float')[rng.randint(10)]
        elif kind == 3:
            entries[('../../executed', '', '__metadata__', name + '\n', 'é', name.upper())[rng.randint(6)]] = (
                entries.pop(name))
        elif kind == 4:
            other = sorted(entries)[rng.randint(len(entries))]
            entries[name], entries[other] = entries[other], entries[name]
        else:
            entry[('shape', 'dtype', 'data_offsets', 'more')[rng.randint(4)]] = (None, {}, [], 'x', 1.5)[rng.randint(5)]
    text = json.dumps(entries).encode()
    return struct.pack('<Q', len(text)) + text + data[8 + length:]


COMMON = (truncate, flip, flip, overwrite, repeat, enlarge, enlarge)
DAMAGE = {'legacy': (*COMMON, program, program, rename), 'zip': (*COMMON, program, rename, repack, repack, repack),
          'safetensors': (*COMMON, header, header, header), 'params': COMMON}


# --- the cases ---------------------------------------------------------------------------------

def values(backbone):
    return {name: parameter.data().asnumpy() for name, parameter in backbone.naming().parameters.items()}


class Watch:
    """Collects the events of running something or writing a file, while it is on."""

    def __init__(self):
        self.on, self.events = False, []
        sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        if self.on and (FORBIDDEN.fullmatch(event) or event == 'open' and set(str(arguments[1])) & set('wax+')):
            self.events.append(f'{event} {arguments}'[:200])


def load_damaged(backbone, namings, size, watch):
    """Load the file 'damaged' of ``size`` bytes; return (outcome, share of the allowed memory, list of problems)."""
    before, problems, outcome = values(backbone), [], 'refused'
    watch.events, watch.on = [], True
    tracemalloc.reset_peak()
    start = tracemalloc.get_traced_memory()[0]
    try:
        loading.load_into(backbone, namings, 'damaged')
        outcome = 'loaded'
    except UserError as error:
        if '\n' in str(error) or "'damaged'" not in str(error) or len(str(error)) > 2000:
            problems.append(f'message {str(error)[:300]!r}')
    except BaseException as error:
        problems.append(f'{type(error).__name__}: {error}')
    watch.on = False
    peak = (tracemalloc.get_traced_memory()[1] - start) / (4 * size + FIXED)
    after = values(backbone)
    if peak > 1:
        problems.append(f'allocated {peak:.1f} times what is allowed')
    if watch.events or os.listdir() != ['damaged']:
        problems.append(f'executed: {watch.events or os.listdir()}')
    if {name: array.shape for name, array in after.items()} != {name: array.shape for name, array in before.items()}:
        problems.append('names or shapes')
    if not all(np.isfinite(array).all() for array in after.values()):
        problems.append('values that are not finite')
    if outcome == 'refused' and any((after[name] != before[name]).any() for name in before):
        problems.append('refused, but loaded in part')
    return outcome, peak, problems


def main(first, count, folder):
    backbone, namings = victim()
    whole, watch = whole_files(backbone), Watch()
    result = {'loaded': 0, 'refused': 0, 'problems': [], 'peak': 0.0}
    os.chdir(folder)
    with open('/proc/self/statm') as stream:
        limit = int(stream.read().split()[0]) * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    tracemalloc.start()
    for case in range(first, first + count):
        rng, kind = np.random.RandomState(case), FORMATS[case % len(FORMATS)]
        damage = DAMAGE[kind][rng.randint(len(DAMAGE[kind]))]
        data = damage(rng, whole[kind])
        with open('damaged', 'wb') as stream:
            stream.write(data)
        outcome, peak, problems = load_damaged(backbone, namings, len(data), watch)
        result[outcome] += 1
        result['peak'] = max(result['peak'], peak)
        result['problems'] += [f'case {case}, {kind}, {damage.__name__}: {problem}' for problem in problems]
    print(json.dumps(result))


if __name__ == '__main__':
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
