"""Write ``docs/configuration.md``, the page of all keys: ``python -m gluon_fgvc.commands.reference``."""
import sys

from gluon_fgvc import data, methods
from gluon_fgvc.commands import cli
from gluon_fgvc.config.reference import page
from gluon_fgvc.files import write_atomically

PATH = 'docs/configuration.md'


def text():
    """Return the page of the data sets and methods that there are."""
    return page({name: data.options(name) for name in data.available()},
                {name: methods.options(name) for name in methods.available()})


def main(argv=None):
    print(write_atomically(PATH, text()))


if __name__ == '__main__':
    sys.exit(cli.run(main))
