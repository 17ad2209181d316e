"""What oneDNN chooses is what it says, and an emulated processor is a lesser one."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gluon_fgvc.machine import processor
from tests import small_run

ROOT = Path(__file__).parents[2]
CONVOLUTION = ('import gluon_fgvc, mxnet as mx; x = mx.nd.ones((1, 8, 4, 4)); w = mx.nd.ones((8, 8, 1, 1)); '
               'mx.nd.Convolution(x, w, no_bias=True, kernel=(1, 1), num_filter=8).wait_to_read()')
# oneDNN's own words, of its release 2.4.
WORDS = {'AVX512_CORE_AMX': 'AVX-512 with Intel DL Boost and bfloat16 support and Intel AMX.*',
         'AVX512_CORE_BF16': 'AVX-512 with Intel DL Boost and bfloat16 support', 'AVX2': 'AVX2', 'AVX': 'AVX',
         'AVX512_CORE_VNNI': 'AVX-512 with Intel DL Boost', 'SSE41': 'SSE4.1', 'AVX2_VNNI': 'AVX2 with Intel DL Boost',
         'AVX512_CORE': 'AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions'}
SKYLAKE = {'sse4_1', 'avx', 'avx2', 'fma', 'avx512f', 'avx512bw', 'avx512vl', 'avx512dq'}
BOUNDS = ['', 'ALL', 'no such name', *processor.ONEDNN]
FEW = '', 'no such name', 'AVX2'


@pytest.mark.parametrize('bound', [bound if bound in FEW else pytest.param(bound, marks=pytest.mark.slow)
                                   for bound in BOUNDS])
def test_the_choice_is_what_onednn_says(bound):
    said = subprocess.run([sys.executable, '-c', CONVOLUTION], check=True, text=True, stdout=subprocess.PIPE,
                          env={**os.environ, 'DNNL_VERBOSE': '1', 'DNNL_MAX_CPU_ISA': bound, 'PYTHONPATH': str(ROOT)})
    words = re.search(r'cpu,isa:Intel (.*)', said.stdout)[1]
    assert re.fullmatch(WORDS[processor.onednn_choice(bound=bound)], words)


@pytest.mark.parametrize('flags, bound, choice', [
    (SKYLAKE, '', 'AVX512_CORE'), (SKYLAKE, 'AVX2', 'AVX2'), (SKYLAKE, 'AVX512_CORE_AMX', 'AVX512_CORE'),
    (SKYLAKE, 'AVX2_VNNI', 'AVX2'), (SKYLAKE | {'avx512_vnni'}, 'ALL', 'AVX512_CORE_VNNI'),
    ({'sse4_1', 'avx', 'avx2'}, '', 'AVX2'), ({'sse4_1', 'avx', 'avx2', 'avx512f'}, '', 'AVX2'), (set(), '', 'none')])
def test_choices(flags, bound, choice):
    assert processor.onednn_choice(flags, bound) == choice


def test_what_is_named():
    assert processor.instruction_sets(SKYLAKE | {'fpu', 'sse2'}) == [
        'sse4_1', 'avx', 'avx2', 'fma', 'avx512f', 'avx512bw', 'avx512vl', 'avx512dq']
    assert processor._flags('/does/not/exist') == set()


def emulate(*words):
    return subprocess.run([sys.executable, str(ROOT / 'tools/emulate.py'), *words], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)


def test_emulate():
    isa = 'AVX2' if 'avx2' in processor.instruction_sets() else 'SSE41'
    code = ('from gluon_fgvc.machine import processor; import numpy.core._multiarray_umath as n; '
            'print(processor.onednn_choice(), n.__cpu_features__["AVX512F"])')
    done = emulate(isa, sys.executable, '-c', f'import sys; sys.path.insert(0, {str(ROOT)!r}); {code}')
    assert (done.returncode, done.stdout.split()) == (0, [isa, 'False'])
    assert emulate('AVX2').returncode == 2
    done = emulate('AVX9', 'true')
    assert done.returncode == 2 and done.stderr.startswith("error: 'AVX9' is none of AVX512_CORE_AMX, ")
    assert emulate('--help').returncode == 0


def test_more_than_the_processor_has_cannot_be_emulated(monkeypatch):
    monkeypatch.setattr(processor, '_flags', lambda: {'sse4_1', 'avx', 'avx2'})
    with pytest.raises(ValueError, match='this processor has no avx512f, avx512bw'):
        processor.emulation('AVX512_CORE')


def test_a_resume_on_another_processor_is_told_in_one_line(tmp_path):
    """And not told where nothing has changed."""
    small_run.write(tmp_path)
    lesser = 'AVX' if processor.onednn_choice() != 'AVX' else 'SSE41'
    said = []
    for option, bound, epoch in (('--work-dir', '', 2), ('--resume', '', 3), ('--resume', lesser, None)):
        process = small_run.start('train', '--cfg', 'cfg.yaml', option, 'run', '--no-test', 'train.epochs=4',
                                  cwd=tmp_path, variables={'DNNL_MAX_CPU_ISA': bound})
        out = []
        for line in process.stdout:
            out.append(line)
            if epoch and line.startswith(f'epoch {epoch}/'):  # the checkpoint of the epoch before is there
                process.kill()
        process.wait()
        out = ''.join(out)
        said.append([line for line in out.splitlines() if 'instruction set' in line])
    assert said[:2] == [[], []] and 'epoch 4/4' in out
    assert said[2] == [
        f'resumed with another instruction set {lesser}, before {processor.onednn_choice(bound="")}: sums are rounded '
        'in another order, so the result differs from an uninterrupted run in its last bits']
