"""The main job from end to end on real photographs: train, evaluate, predict a few, export with a parity check."""
import os
import shlex
import subprocess
import sys
import time

from gluon_fgvc import config, data
from gluon_fgvc import runs as run
from gluon_fgvc.commands import cli
from gluon_fgvc.run_folder import RunFolder

PICTURES = 8


def main(argv=None):
    parser = cli.Parser('python tools/quickstart.py', __doc__)
    cli.add_cfg(parser, required=False, default='finetune/quickstart', help='configuration; default: %(default)s')
    parser.add_argument('overrides', nargs='*', metavar='KEY=VALUE', help='overrides of the configuration')
    args = parser.parse_args(argv)

    started = time.time()
    path = config.find(args.cfg)
    cfg = run.load_config(path, cli.overrides(args))
    folder = run.new_folder(cfg, path.stem)
    test = [os.path.relpath(path) for path in data.build(cfg.data).test.paths]
    pictures = [test[i * len(test) // PICTURES] for i in range(PICTURES)]
    for name, *words in (('train', '--cfg', path, '--work-dir', folder, '--no-test', *args.overrides),
                         ('evaluate', folder),
                         ('export', folder, '--bake-preprocessing', '--bake-softmax'),
                         ('predict', RunFolder(folder).export, *pictures, '--out', folder / 'predicted')):
        command = ['fgvc', name, *map(str, words)]  # what a user would type here
        print(f'\n$ {shorten(command)}', flush=True)
        code = subprocess.run([sys.executable, '-m', 'gluon_fgvc', *command[1:]]).returncode
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
