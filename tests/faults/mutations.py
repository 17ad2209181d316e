"""Commands on files that were damaged at random: each in a forked child with bounded memory and time.

``python -m tests.faults.mutations FOLDER COUNT SEED`` makes a run and an export in FOLDER and prints one line for each
finding and a summary.
"""
import contextlib
import hashlib
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

MEMORY = 8 << 30  # bytes of addresses; MXNet's libraries and engine take three
SECONDS = 120
WORDS = [b'null', b'[]', b'{}', b'-1', b'0', b'1e999', b'99999999999999999999', b'"x"', b'""', b'true', b'NaN', b'\0',
         b'\xff', b'../..', b'!!python/object:os.system', b'&a [*a]', b'2147483648', b'-9223372036854775808']


def mutate(content, rng):
    """Return ``content``, bytes, changed in one to three places."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(content) + 1)
        length = min(len(content) - at, rng.choice([1, 1, 4, 30]))
        numbers = list(re.finditer(rb'-?\d+(\.\d+)?|"[^"]*"', content[:100_000]))
        content = rng.choice([
            lambda at=at, n=length: content[:at] + bytes(rng.randrange(256) for _ in range(n)) + content[at + n:],
            lambda at=at, n=length: content[:at] + content[at + n:],
            lambda at=at, n=length: content[:at] + content[at:at + n] * rng.choice([2, 50]) + content[at + n:],
            lambda at=at: content[:at],
            lambda at=at: content[:at] + rng.choice(WORDS) + content[at:],
            lambda found=numbers: replaced(content, rng.choice(found), rng) if found else b'',
        ])()
    return content


def replaced(content, match, rng):
    return content[:match.start()] + rng.choice(WORDS) + content[match.end():]


# What is damaged → command that reads it, relative to the folder. 'sealed' renews checksums, as an attacker would.
TARGETS = {
    'config.yaml': ('cfg.yaml', ['train', '--cfg', 'cfg.yaml', '--print-config']),
    'list': ('lists/train.csv', ['doctor', 'data', '--cfg', 'lists.yaml']),
    'parameters': ('plain.params', ['train', '--cfg', 'cfg.yaml', '--no-test', '--work-dir', 'new', 'data.workers=0',
                                    'backbone.weights=plain.params']),
    'checkpoint': ('run/checkpoints/best-*.params', ['evaluate', 'run', '--split', 'val']),
    'checkpoint, sealed': ('run/checkpoints/best-*.params', ['evaluate', 'run', '--split', 'val']),
    'manifest': ('run/best.json', ['evaluate', 'run', '--split', 'val']),
    'resumed manifest': ('run/last.json', ['train', '--cfg', 'cfg.yaml', '--resume', 'run', '--no-test']),
    'resumed manifest, sealed': ('run/last.json', ['train', '--cfg', 'cfg.yaml', '--resume', 'run', '--no-test']),
    'states, sealed': ('run/checkpoints/last-*.npz', ['train', '--cfg', 'cfg.yaml', '--resume', 'run', '--no-test']),
    'run': ('run/config.yaml', ['evaluate', 'run', '--split', 'val']),
    'classes': ('run/classes.json', ['evaluate', 'run', '--split', 'val']),
    'metrics': ('run/metrics.jsonl', ['train', '--cfg', 'cfg.yaml', '--resume', 'run', '--no-test']),
    'metadata': ('run/export/*.json', ['predict', 'run/export', 'images/test', '--out', 'new']),
    'symbol': ('run/export/*symbol*', ['predict', 'run/export', 'images/test', '--out', 'new']),
    'symbol, sealed': ('run/export/*symbol*', ['predict', 'run/export', 'images/test', '--out', 'new']),
    'exported parameters, sealed': ('run/export/*.params', ['predict', 'run/export', 'images/test', '--out', 'new']),
}
WRITTEN = re.compile(r'(new|run)(/|$)')  # where the commands write; all else is the user's alone


# Once, for all children: what their commands import. None of these starts a thread, which no child would have.
IMPORTED = ('mxnet', 'gluoncv.model_zoo', 'gluon_fgvc.runs', 'gluon_fgvc.deploy', 'gluon_fgvc.commands.train',
            'gluon_fgvc.commands.evaluate', 'gluon_fgvc.commands.doctor', 'gluon_fgvc.commands.predict')


def seal(folder, path):
    """Renew the checksums that speak of ``path``, a damaged file below ``folder``."""
    from gluon_fgvc.run_folder import manifests
    digest, relative = hashlib.sha256(path.read_bytes()).hexdigest(), path.relative_to(folder / 'run').as_posix()
    with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError, KeyError):
        for manifest in (folder / 'run').glob('*.json'):
            record = json.loads(manifest.read_bytes())
            if isinstance(record, dict) and manifests.CHECKSUM in record:
                if relative in record.get('files', {}):
                    record['files'][relative] = digest
                record.pop(manifests.CHECKSUM)
                record[manifests.CHECKSUM] = manifests._checksum(record)
                manifest.write_text(json.dumps(record))
        for metadata in (folder / 'run' / 'export').glob('*.json'):
            record = json.loads(metadata.read_bytes())
            if isinstance(record, dict) and path.name in record.get('files', {}):
                record['files'][path.name]['sha256'] = digest
                metadata.write_text(json.dumps(record))


def prepare(folder):
    """Make in ``folder`` what the targets name."""
    from gluon_fgvc.commands import entry
    from tests import small_run
    small_run.write(folder)
    os.chdir(folder)
    Path('lists').mkdir()
    rows = [f'../images/train/{name}/{i}.jpg,{name}' for name in ('circle', 'square') for i in range(8)]
    for name in ('train', 'test'):
        Path(f'lists/{name}.csv').write_text('path,label\n' + '\n'.join(rows[:8 if name == 'test' else 16:2]) + '\n')
    lists = ('data: {name: list_file, train_list: lists/train.csv, test_list: lists/test.csv, '
             'train: {resize: [32, 32]},')
    Path('lists.yaml').write_text(Path('cfg.yaml').read_text().replace(
        'data: {name: image_folder, root: images, train: {random_resized_crop: 32, flip: true},', lists))
    for words in (['train', '--cfg', 'cfg.yaml', '--work-dir', 'run', '--no-test'], ['export', 'run']):
        assert in_child(words)[0] == 0, in_child(words)
    in_child(None, _weights)
    assert entry.COMMANDS


def _weights():
    from gluon_fgvc import backbones
    from gluon_fgvc.nn.parameters import structural
    backbone = backbones.get('mobilenetv2_0.25')
    import mxnet as mx
    mx.nd.save('plain.params', {name: p.data() for name, p in structural(backbone).items()})
    return 0


def in_child(words, function=None):
    """Run a command, or ``function``, in a forked child; return (exit code or -signal, what it wrote to stderr)."""
    with tempfile.TemporaryFile() as out:
        child = os.fork()
        if not child:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            signal.alarm(SECONDS)
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            code = 99
            try:
                from gluon_fgvc.commands import entry
                code = function() if function else entry.main(words)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush(), sys.stderr.flush()
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        out.seek(0)
        text = out.read().decode(errors='replace')
    return (-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), text


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def attempt(template, name, seed):
    """Damage target ``name`` in a copy of ``template``, run its command and return (exit code, finding or None)."""
    pattern, words = TARGETS[name]
    with tempfile.TemporaryDirectory(dir=template.parent) as place:
        folder = Path(place) / 'x'
        shutil.copytree(template, folder)
        path = next(folder.glob(pattern))
        path.write_bytes(mutate(path.read_bytes(), random.Random(f'{name}{seed}')))
        if name.endswith('sealed'):
            seal(folder, path)
        before = contents(folder)
        os.chdir(folder)
        code, text = in_child(words)
        os.chdir(template)
        after = contents(folder)
        changed = sorted(key for key, content in before.items() if after.get(key) != content
                         and not WRITTEN.match(key))
    if code < 0:
        return code, f'died of {signal.Signals(-code).name}'
    if code not in (0, 1, 2, 3) or 'Traceback' in text:
        return code, 'traceback: ' + ' | '.join(text.strip().splitlines()[-3:])
    if code and 'error: ' not in text and code != 3:
        return code, f'no error line: {text[-200:]}'
    return code, f'changed {changed}' if changed else None


def main(folder, count, seed):
    for name in IMPORTED:
        importlib.import_module(name)
    template = Path(folder).resolve() / 'template'
    template.mkdir(parents=True)
    prepare(template)
    codes, findings = {}, 0
    for number in range(int(count)):
        name = list(TARGETS)[number % len(TARGETS)]
        code, finding = attempt(template, name, int(seed) + number)
        codes[code] = codes.get(code, 0) + 1
        if finding:
            findings += 1
            print(f'{name}, seed {int(seed) + number}: {finding}', flush=True)
        if number % 100 == 99:
            print(f'{number + 1} of {count}: {findings} findings so far', flush=True)
    print(f'{count} mutated files: {findings} findings; exit codes {dict(sorted(codes.items()))}')
    return min(findings, 1)


if __name__ == '__main__':
    import gluon_fgvc  # noqa: F401 - before mxnet: it sets the threads
    sys.exit(main(*sys.argv[1:]))
