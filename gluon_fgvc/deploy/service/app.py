"""The service's paths: classify images, tell its state, show a page."""
import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gluon_fgvc.deploy.engines import threads
from gluon_fgvc.deploy.predictor import ranking
from gluon_fgvc.deploy.service.batching import Batcher
from gluon_fgvc.deploy.service.limits import Limits, Refused, declared_bytes, images_of, prepare
from gluon_fgvc.deploy.service.metrics import Measured, Metrics

TOP = 5
MOST_DIGITS = 9
_PAGE = Path(__file__).parent
_FILES = {'/': ('page.html', 'text/html'), '/page.css': ('page.css', 'text/css'),
          '/page.js': ('page.js', 'text/javascript')}


class Service:
    """A :class:`~gluon_fgvc.deploy.Predictor` over HTTP; ``app`` is the ASGI application."""

    def __init__(self, predictor, limits=None):
        self.predictor, self.limits = predictor, limits or Limits()
        self.batcher = Batcher(predictor, self.limits, lambda count: self.metrics.batch.observe(count))
        self.metrics = Metrics(predictor, lambda: self.batcher.images)
        self._decoders = ThreadPoolExecutor(threads(), 'decode')
        paths = {'/predict': (self.predict, 'POST'), '/model': (self.model, 'GET'), '/health': (self.health, 'GET'),
                 '/ready': (self.ready, 'GET'), '/metrics': (self.scrape, 'GET')}
        routes = [Route(path, answer, methods=[method]) for path, (answer, method) in paths.items()]
        for path, (name, kind) in _FILES.items():
            text = (_PAGE / name).read_text('utf-8')
            routes.append(Route(path, partial(_page, Response(text, media_type=kind)), methods=['GET']))
        self.app = Starlette(routes=routes, lifespan=self._lifespan,
                             middleware=[Middleware(Measured, metrics=self.metrics, paths={*paths, *_FILES})],
                             exception_handlers={Refused: self._refuse, ClientDisconnect: self._gone})

    @asynccontextmanager
    async def _lifespan(self, _):
        self.batcher.start()
        try:
            yield
        finally:
            await self.batcher.stop()
            self._decoders.shutdown()

    # --- answers -----------------------------------------------------------------------------

    async def predict(self, request):
        """POST an image, or a form with several; ``?top=3`` classes, ``&maps=1`` also where the network looks.

        A request with one image that cannot be used is refused; with several, each such image has its own error.
        """
        top = self._number(request, 'top', TOP)
        wants_maps = request.query_params.get('maps', '0') not in ('', '0')
        with self.batcher.admitted(1, declared_bytes(request, self.limits)):  # before its body is read
            images = await images_of(request, self.limits)
            with self.batcher.admitted(len(images) - 1):
                answers = await asyncio.gather(*(self._one(*image, top, wants_maps) for image in images),
                                               return_exceptions=True)
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        for error in failed:
            if len(answers) == 1 or not isinstance(error, Refused):
                raise error
            self.metrics.refused.labels(error.reason).inc()
        return JSONResponse({'images': [{'name': name, 'error': str(answer)} if isinstance(answer, Refused) else answer
                                        for (name, _), answer in zip(images, answers)]})

    async def _one(self, name, data, top, wants_maps):
        loop = asyncio.get_running_loop()
        try:
            prepared, answer = await asyncio.wait_for(self._look(loop, name, data, wants_maps),
                                                      self.limits.predict_seconds)
        except asyncio.TimeoutError:
            raise Refused(504, 'time', f'no answer within {self.limits.predict_seconds:g} s') from None
        self.metrics.images.inc()
        found = {'name': name, 'height': prepared.size[0], 'width': prepared.size[1],
                 'predictions': [{'class': name, 'probability': p}
                                 for name, p in ranking(self.predictor.classes, answer.probabilities, top)]}
        if wants_maps:
            found['maps'] = [{'name': name, 'height': len(values), 'width': len(values[0]),
                              'values': shares(values)}
                             for name, values in answer.maps.items()]
            found['view'] = prepared.view
            if answer.no_maps:
                found['no_maps'] = answer.no_maps
        return found

    async def _look(self, loop, name, data, wants_maps):
        prepared = await loop.run_in_executor(self._decoders, prepare, name, data, self.predictor, self.limits)
        return prepared, await self.batcher.ask(prepared.pixels, wants_maps)

    def _number(self, request, key, default):
        text = request.query_params.get(key, str(default))
        if not text.isdecimal() or len(text) > MOST_DIGITS or not int(text):  # Python refuses to read thousands
            raise Refused(400, 'query', f'{key}={text[:MOST_DIGITS]} is not a whole number of at least 1, of at most '
                                        f'{MOST_DIGITS} digits')
        return int(text)

    async def model(self, _):
        """What is served, and what it takes."""
        about = self.predictor.metadata
        return JSONResponse({'classes': list(about.classes), 'method': about.method, 'source': dict(about.source),
                             'temperature': about.temperature, 'engine': self.predictor.engine,
                             'why': self.predictor.why, 'versions': dict(about.versions), 'files': dict(about.files),
                             'limits': vars(self.limits)})

    async def health(self, _):
        """The process lives."""
        return JSONResponse({'status': 'alive'})

    async def ready(self, _):
        """Requests would be answered now."""
        if not self.batcher.is_running:
            raise Refused(503, 'stopping', 'the service is stopping')
        if self.batcher.is_full:
            raise Refused(503, 'full', f'{self.batcher.images} images are waiting')
        return JSONResponse({'status': 'ready'})

    async def scrape(self, _):
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _refuse(self, _, error):
        self.metrics.refused.labels(error.reason).inc()
        headers = {'connection': 'close'}  # the rest of the body is not read
        if error.status == 503:
            headers['retry-after'] = '1'
        return JSONResponse({'error': str(error)}, error.status, headers)

    async def _gone(self, *_):
        self.metrics.refused.labels('gone').inc()
        return Response(status_code=499)  # nobody reads it


def shares(values):
    """Return a map (h,w) as shares of its largest value, row by row, in thousandths."""
    return np.round(values.ravel().astype(np.float64) / max(float(values.max()), 1e-12), 3).tolist()


async def _page(response, _):
    return response
