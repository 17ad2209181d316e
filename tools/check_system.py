"""Check what pip cannot install: Python, its venv module and system libraries. Any Python 3.6+ runs this.

Exit code 0: all there; 3: something is missing, and its remedy is printed.
"""
import argparse
import os
import platform
import runpy
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
environment = runpy.run_path(os.path.join(HERE, '..', 'gluon_fgvc', 'machine', 'environment.py'))


def unsuitable():
    """Return why this Python or machine cannot be used, or None."""
    try:
        environment['check_python']()
    except environment['SetupError'] as error:
        return str(error)
    if (sys.platform, platform.machine()) != ('linux', 'x86_64') or sys.maxsize < 2 ** 32:
        return ("the locks in requirements/ are for 64-bit Linux on x86_64, and this is {} on {}: "
                "in an environment of your own, pip install -e '.[cpu]'".format(sys.platform, platform.machine()))
    return None


def missing_packages():
    """Return the names of the Debian packages that are missing."""
    packages = environment['missing_packages']()
    try:
        import ensurepip  # noqa: F401  (Debian splits it off, and venv cannot work without)
        import venv  # noqa: F401
    except ImportError:
        packages.append('python{}.{}-venv'.format(*sys.version_info[:2]))
    return packages


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--python-only', action='store_true', help='check nothing but Python and the machine')
    parser.add_argument('--print-packages', action='store_true', help='print missing Debian packages, exit 0')
    options = parser.parse_args()
    if options.print_packages:
        print(' '.join(missing_packages()))
        return 0
    reason = unsuitable()
    if reason:
        print('check_system: {}'.format(reason), file=sys.stderr)
        return 3
    packages = [] if options.python_only else missing_packages()
    if packages:
        print('check_system: missing system packages; install them with: {}'.format(
            environment['apt_line'](packages)), file=sys.stderr)
        return 3
    return 0


if __name__ == '__main__':
    sys.exit(main())
