"""What the service counts, for Prometheus."""
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The measures; ``registry`` is what is scraped."""

    def __init__(self, predictor, waiting):
        """Count for ``predictor``; ``waiting`` is a callable, the number of images that are not answered."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter('fgvc_requests', 'Requests answered', ['path', 'status'], registry=registry)
        self.seconds = Histogram('fgvc_request_seconds', 'From the headers of a request to the end of its answer',
                                 ['path'], buckets=_SECONDS, registry=registry)
        self.images = Counter('fgvc_images', 'Images classified', registry=registry)
        self.refused = Counter('fgvc_refused', 'Requests and images refused', ['reason'], registry=registry)
        self.batch = Histogram('fgvc_batch_images', 'Images that went through the network at once',
                               buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=registry)
        Gauge('fgvc_queue_images', 'Images taken in and not yet answered', registry=registry).set_function(waiting)
        Info('fgvc_model', 'The model', registry=registry).info({
            'engine': predictor.engine, 'method': predictor.metadata.method,
            'sha256': next(iter(predictor.metadata.files.values()))['sha256']})


class Measured:
    """ASGI middleware: counts requests and their time, and adds the headers that every answer has."""

    HEADERS = ((b'x-content-type-options', b'nosniff'), (b'cache-control', b'no-store'),
               (b'content-security-policy', b"default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"))

    def __init__(self, app, metrics, paths):
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope, receive, send):
        if scope['type'] != 'http':
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), '499'  # as nginx calls it: the client has gone

        async def measured(message):
            nonlocal status
            if message['type'] == 'http.response.start':
                status = str(message['status'])
                message = {**message, 'headers': [*message.get('headers', ()), *self.HEADERS]}
            await send(message)

        path = scope['path'] if scope['path'] in self._paths else 'other'  # a label must not grow without bounds
        try:
            await self._app(scope, receive, measured)
        finally:
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - start)
