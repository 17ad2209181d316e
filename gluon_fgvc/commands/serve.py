"""Serve an exported model over HTTP: an interface for programs, and a page for people.

It answers on this machine alone unless --host says otherwise; there is no login and no encryption, which belong into a
reverse proxy. SIGTERM or Ctrl-C ends it after the requests that have begun. Nothing of an upload is written to disk.
"""
import signal
from pathlib import Path

from gluon_fgvc.choices import ENGINES
from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError


def main(argv=None):
    parser = cli.Parser('fgvc serve', __doc__, 'work_dirs/quickstart/20260101-120000/export --port 8000')
    parser.add_argument('model', metavar='EXPORT', type=Path, help='folder of an exported model')
    parser.add_argument('--host', default='127.0.0.1', metavar='ADDRESS',
                        help='to listen on; 0.0.0.0 is all networks; default: %(default)s')
    parser.add_argument('--port', type=int, default=8000, metavar='N', help='0 takes a free one; default: %(default)s')
    parser.add_argument('--engine', choices=ENGINES, default='auto', help='what runs the model; default: the fastest')
    parser.add_argument('--batch-size', type=cli.positive, default=32, metavar='N',
                        help='images through the network at once; default: %(default)s')
    for flag, unit, text in OPTIONS:
        parser.add_argument(f'--{flag}', type=cli.positive, metavar=unit, help=text)
    args = parser.parse_args(argv)
    if not 0 <= args.port < 65536:
        raise ConfigError(f'--port {args.port} is not between 0 and 65535')

    try:
        from gluon_fgvc.deploy.service.app import Service
        from gluon_fgvc.deploy.service.limits import MIB, Limits
        from gluon_fgvc.deploy.service.server import listening, server
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed: pip install 'gluon_fgvc[serve]'") from None
    from gluon_fgvc.deploy import Predictor
    given = {flag.replace('-', '_'): getattr(args, flag.replace('-', '_')) for flag, _, _ in OPTIONS}
    given = {name: value * MIB if name.endswith('bytes') else value for name, value in given.items() if value}
    predictor = Predictor(args.model, batch_size=args.batch_size, engine=args.engine)
    print(f'engine: {predictor.why}', flush=True)
    with listening(args.host, args.port) as socket:
        host, port = socket.getsockname()[:2]
        print(f"serving on http://{f'[{host}]' if ':' in host else host}:{port}, stop with Ctrl-C", flush=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn ends in peace and then sends itself the signal again
        server(Service(predictor, Limits(**given))).run(sockets=[socket])
    print('stopped', flush=True)


OPTIONS = (
    ('image-bytes', 'MIB', 'largest image file; default: 16'),
    ('request-bytes', 'MIB', 'largest request; default: 64'),
    ('request-images', 'N', 'images in one request at most; default: 32'),
    ('pixels', 'N', 'of an image at most; default: 50000000'),
    ('queue', 'N', 'images that wait at most; further requests get 503; default: 256'),
    ('read-seconds', 'S', 'for a request to arrive; default: 20'),
    ('predict-seconds', 'S', 'for its answer; default: 30'),
    ('connections', 'N', 'at once at most; default: 1024'),
)
