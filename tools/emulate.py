"""Run a command as on a lesser processor: `python tools/emulate.py AVX2 make test`.

It bounds the instruction sets that oneDNN, NumPy, OpenCV and OpenBLAS use; gluon_fgvc/machine/processor.py says what
that cannot show. Nothing needs to be installed.
"""
import os
import runpy
import sys

PROCESSOR = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'gluon_fgvc', 'machine', 'processor.py')


def main(argv):
    processor = runpy.run_path(PROCESSOR)
    if len(argv) < 2 or argv[0] in ('-h', '--help'):
        print(__doc__ + '\nusage: emulate.py {' + ','.join(processor['ONEDNN']) + '} COMMAND …',
              file=sys.stdout if argv[:1] in (['-h'], ['--help']) else sys.stderr)
        return 0 if argv[:1] in (['-h'], ['--help']) else 2
    try:
        os.environ.update(processor['emulation'](argv[0]))
        os.execvp(argv[1], argv[1:])
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
