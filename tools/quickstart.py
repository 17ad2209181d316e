"""The main job from end to end on real photographs: train, evaluate, predict a few, export with a parity check."""
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from gluon_fgvc import data
from gluon_fgvc import runs as run
from gluon_fgvc.commands import cli
from gluon_fgvc.run_folder import RunFolder

TOOLS = Path(__file__).parent
CONFIG = Path(os.path.relpath(TOOLS.parent / 'configs/finetune/quickstart.yaml'))
PICTURES = 8


def main(argv=None):
    parser = cli.Parser(__doc__, 'python tools/quickstart.py')
    parser.add_argument('--cfg', metavar='FILE', type=Path, default=CONFIG,
                        help='default: configs/finetune/quickstart.yaml')
    parser.add_argument('overrides', nargs='*', metavar='KEY=VALUE', help='overrides of the configuration')
    args = parser.parse_args(argv)

    started = time.time()
    cfg = run.load_config(args.cfg, cli.overrides(args))
    folder = run.new_folder(cfg, args.cfg.stem)
    test = [os.path.relpath(path) for path in data.build(cfg.data).test.paths]
    pictures = [test[i * len(test) // PICTURES] for i in range(PICTURES)]
    for tool, *words in (('train', '--cfg', args.cfg, '--work-dir', folder, '--no-test', *args.overrides),
                         ('evaluate', folder),
                         ('export', folder, '--bake-preprocessing', '--bake-softmax'),
                         ('predict', RunFolder(folder).export, *pictures, '--out', folder / 'predicted')):
        command = ['python', f'tools/{tool}.py', *map(str, words)]  # what a user would type here
        print(f'\n$ {shorten(command)}', flush=True)
        code = subprocess.run([sys.executable, str(TOOLS / f'{tool}.py'), *command[2:]]).returncode
        if code:
            return code
    print(f'\nDone in {time.time() - started:.0f} s.\n'
          f'  report:       {RunFolder(folder).report}\n'
          f'  predictions:  {folder / "predicted" / "contact_sheet.jpg"}\n'
          f'  model:        {RunFolder(folder).export} (uint8 images in, probabilities out)')


def shorten(command):
    """Return ``command`` as a line to read: of many paths only the first is shown."""
    paths = [word for word in command if word.endswith('.png')]
    shown = [word for word in command if word not in paths[1:]]
    return shlex.join(shown).replace(paths[0], f'{paths[0]} …') if paths else shlex.join(shown)


if __name__ == '__main__':
    sys.exit(cli.run(main))
