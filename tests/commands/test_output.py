import errno
import os
import subprocess
import sys

import pytest

from gluon_fgvc.commands import cli
from tests.small_run import ROOT

PROGRAM = r"""
import sys
from gluon_fgvc.commands import cli
def main(_):
    for number in range(3000):
        print('line', number, '\u2713 \udce9', flush=True)
    open(sys.argv[1], 'w').write('done')
sys.exit(cli.run(main))
"""


def start(tmp_path, **options):
    variables = {**os.environ, 'PYTHONPATH': str(ROOT), **options.pop('env', {})}
    return subprocess.Popen([sys.executable, '-c', PROGRAM, str(tmp_path / 'result')], env=variables, **options)


def test_work_goes_on_when_the_reader_leaves(tmp_path):
    process = start(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b'' and process.wait() == 0
    assert (tmp_path / 'result').read_text() == 'done'


def test_work_goes_on_when_the_terminal_is_gone(tmp_path):
    ours, theirs = os.openpty()
    process = start(tmp_path, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.read(ours, 10)
    os.close(ours)
    assert process.wait() == 0 and (tmp_path / 'result').read_text() == 'done'


@pytest.mark.parametrize('encoding', ['ascii', 'utf-8'])
def test_what_an_output_cannot_write_is_written_otherwise(tmp_path, encoding):
    process = start(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={'PYTHONIOENCODING': encoding})
    out, err = process.communicate()
    assert process.returncode == 0 and err == b''
    tick = b'\\u2713' if encoding == 'ascii' else '\u2713'.encode()
    assert out.splitlines()[0] == b'line 0 ' + tick + b' \\udce9'


@pytest.mark.parametrize('name', ['ENAMETOOLONG', 'ELOOP', 'EIO', 'EBADF', 'EMFILE', 'ESTALE', 'ENOSPC', 'EACCES'])
def test_what_the_machine_says_is_one_line(capsys, name):
    def main(_):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)), 'some/file')
    assert cli.run(main) == cli.FAILED
    assert capsys.readouterr().err == f"error: {os.strerror(getattr(errno, name))}: 'some/file'\n"


def test_a_defect_of_ours_keeps_its_traceback():
    def main(_):
        raise OSError(errno.EINVAL, 'Invalid argument', 'some/file')
    with pytest.raises(OSError):
        cli.run(main)


@pytest.mark.parametrize('word, holds', [('run.seed=3', True), ('run.work_dir=a/b', True), ('work_dirs/a', False),
                                         ('a=b', False), (True, False), (None, False)])
def test_overrides_are_told_from_paths(word, holds):
    assert cli.is_override(word) is holds
