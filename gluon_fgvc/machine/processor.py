"""What the processor can do, and how to see the program as another processor runs it. Standard library only.

MXNet's convolutions are oneDNN's, which chooses its kernels, their memory layout and thus the order of sums by the
instruction sets that it finds. Bits are therefore equal between runs on one kind of processor, and differ by
rounding between kinds. ``DNNL_MAX_CPU_ISA`` bounds what it uses.
"""
import os

# What oneDNN 2.4 (in MXNet 1.9.1) chooses among, best first: its name in DNNL_MAX_CPU_ISA → the flags it asks for.
_AVX512_CORE = ('avx512f', 'avx512bw', 'avx512vl', 'avx512dq')
ONEDNN = {
    'AVX512_CORE_AMX': (*_AVX512_CORE, 'avx512_vnni', 'avx512_bf16', 'amx_tile', 'amx_int8', 'amx_bf16'),
    'AVX512_CORE_BF16': (*_AVX512_CORE, 'avx512_vnni', 'avx512_bf16'),
    'AVX512_CORE_VNNI': (*_AVX512_CORE, 'avx512_vnni'),
    'AVX512_CORE': _AVX512_CORE,
    'AVX2_VNNI': ('avx2', 'avx_vnni'),
    'AVX2': ('avx2',),
    'AVX': ('avx',),
    'SSE41': ('sse4_1',),
}
_WORTH_NAMING = ('sse4_1', 'avx', 'avx2', 'fma', 'avx_vnni', *_AVX512_CORE, 'avx512_vnni', 'avx512_bf16', 'amx_int8',
                 'amx_bf16')
# What else would use instructions that a bounded oneDNN does without: NumPy, OpenCV, and MXNet's OpenBLAS.
_WITHOUT_AVX512 = {'NPY_DISABLE_CPU_FEATURES': 'AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL',
                   'OPENCV_CPU_DISABLE': 'AVX512-SKX', 'OPENBLAS_CORETYPE': 'Haswell'}


def instruction_sets(flags=None):
    """Return the instruction sets of this processor that matter for speed or rounding, as Linux names them."""
    flags = _flags() if flags is None else flags
    return [name for name in _WORTH_NAMING if name in flags]


def onednn_choice(flags=None, bound=None):
    """Return the best of ``ONEDNN`` that the processor has and ``DNNL_MAX_CPU_ISA`` allows; 'none' without SSE 4.1.

    :param flags: of /proc/cpuinfo; None reads them.
    :param bound: value of ``DNNL_MAX_CPU_ISA``; None reads it. oneDNN takes an unknown name for no bound, as we do.
    """
    flags = _flags() if flags is None else flags
    bound = os.environ.get('DNNL_MAX_CPU_ISA', '') if bound is None else bound
    names = list(ONEDNN)
    for name in names[names.index(bound) if bound in names else 0:]:
        if all(flag in flags for flag in ONEDNN[name]):
            return name
    return 'none'


def emulation(isa):
    """Return the environment variables, a dict, under which programs run as on a processor with ``isa`` at most.

    They bound oneDNN, and below AVX-512 also NumPy, OpenCV and OpenBLAS, and must be set before a program starts. What
    cannot be emulated: the rounding of approximate reciprocals, in which makers differ; caches and speed; and a larger
    instruction set than the processor has.

    :raises ValueError: for a name that oneDNN does not know, or more than this processor has.
    """
    if isa not in ONEDNN:
        raise ValueError(f"'{isa}' is none of {', '.join(ONEDNN)}")
    missing = [flag for flag in ONEDNN[isa] if flag not in _flags()]
    if missing:
        raise ValueError(f"'{isa}' cannot be emulated: this processor has no {', '.join(missing)}")
    return {'DNNL_MAX_CPU_ISA': isa, **({} if isa.startswith('AVX512') else _WITHOUT_AVX512)}


def _flags(path='/proc/cpuinfo'):
    try:
        with open(path, encoding='utf-8', errors='replace') as stream:
            return next((set(line.split(':', 1)[1].split()) for line in stream if line.startswith('flags')), set())
    except OSError:
        return set()
