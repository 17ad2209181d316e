"""A builder of self-contained HTML pages in which every text is escaped unless it was built here."""
import base64
import hashlib
import html
import re

VOID = frozenset(('img', 'meta', 'br', 'hr', 'col', 'link'))
_CONTROL = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]')


class Html(str):
    """Markup. Any other string is text and is escaped where it meets markup."""

    __slots__ = ()


def escape(text):
    """Return ``text`` as markup; control characters and undecodable bytes become U+FFFD."""
    return text if isinstance(text, Html) else Html(html.escape(_CONTROL.sub('\ufffd', str(text))))


def join(*children):
    """Concatenate markup, texts and nested lists of them; None adds nothing."""
    parts = []
    for child in children:
        if isinstance(child, (list, tuple)):
            parts.append(join(*child))
        elif child is not None:
            parts.append(escape(child))
    return Html(''.join(parts))


def tag(element, /, *children, **attributes):
    """Return the element ``<element …>children</element>``.

    In attribute names a trailing underscore is dropped and others become hyphens (``class_``,
    ``aria_label``); a value of None or False leaves the attribute out, True gives it no value, and
    floats keep two decimals, enough for coordinates.
    """
    parts = [f'<{element}']
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip('_').replace('_', '-')
        if isinstance(value, float):
            value = f'{value:.2f}'.rstrip('0').rstrip('.')
        parts.append(f' {key}' if value is True else f' {key}="{escape(value)}"')
    parts.append('>')
    if element not in VOID:
        parts += [join(*children), f'</{element}>']
    return Html(''.join(parts))


def data_uri(content, kind):
    """Return bytes as a data URI of MIME type ``kind``."""
    return f'data:{kind};base64,{base64.b64encode(content).decode("ascii")}'


def page(title, *body, style, script=None):
    """Return a whole document. Its policy forbids every request and every script but ``script``."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode('utf-8')).digest()).decode('ascii')
        policy += f"; script-src 'sha256-{digest}'"
    return Html('<!DOCTYPE html>\n') + tag(
        'html',
        tag('head',
            tag('meta', charset='utf-8'),
            tag('meta', http_equiv='Content-Security-Policy', content=policy),
            tag('meta', name='viewport', content='width=device-width, initial-scale=1'),
            tag('meta', name='color-scheme', content='light dark'),
            tag('title', title),
            tag('style', Html(style))),
        tag('body', *body, tag('script', Html(script)) if script else None),
        lang='en')


STYLE = """
:root { color-scheme: light dark;
  --ground: #fdfdfc; --card: #f4f5f5; --ink: #1b1f23; --soft: #596068; --line: #d9dcdf; --grid: #e7e9eb;
  --one: #0b6aa8; --two: #b8500a; --band: #1b1f2316; --on-fill: #fff; --on-half: #0c1013; --track: #dfe3e6;
  --warn: #fdf1e6; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #14171a; --card: #1d2125; --ink: #e8eaec; --soft: #a2aab2; --line: #363c42; --grid: #2a2f34;
  --one: #62b5ec; --two: #f0994f; --band: #ffffff1a; --on-fill: #0c1013; --track: #343a40; --warn: #33261a; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 1120px; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.015em; }
h2 { font-size: 1.2rem; margin: 3rem 0 .35rem; letter-spacing: -.01em; }
h3 { font-size: 1rem; margin: 0 0 .3rem; }
p { margin: .3rem 0 .9rem; max-width: 46rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .875rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.name { unicode-bidi: isolate; overflow-wrap: anywhere; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
svg { display: block; max-width: 100%; height: auto; }
svg text { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif;
  fill: var(--soft); font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; font-size: .9rem; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { padding: .32rem .9rem .32rem 0; text-align: left; vertical-align: middle;
  border-bottom: 1px solid var(--grid); }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; }
tbody th { font-weight: 400; color: var(--ink); vertical-align: middle; }
th.number, td.number { text-align: right; }
table .name { min-width: 7.5rem; overflow-wrap: break-word; }
pre { background: var(--card); padding: 1rem; overflow: auto; font-size: .8rem; line-height: 1.45; border-radius: 6px; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--soft); }
:focus-visible { outline: 2px solid var(--one); outline-offset: 2px; }
@media print { body { max-width: none; padding: 0; font-size: 11pt; print-color-adjust: exact;
  -webkit-print-color-adjust: exact; } h2 { break-after: avoid; } tr { break-inside: avoid; } }
"""
