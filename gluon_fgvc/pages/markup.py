"""A builder of self-contained HTML pages in which every text is escaped unless it was built here."""
import base64
import hashlib
import html
import re
from importlib import resources

VOID = frozenset(('img', 'meta', 'br', 'hr', 'col', 'link', 'input'))
_CONTROL = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]')


class Html(str):
    """Markup. Any other string is text and is escaped where it meets markup."""

    __slots__ = ()


def clean(text):
    """Return ``text`` with U+FFFD in the place of control characters and undecodable bytes."""
    return _CONTROL.sub('\ufffd', str(text))


def escape(text):
    """Return ``text`` as markup, :func:`clean` and with every sign of markup escaped."""
    return text if isinstance(text, Html) else Html(html.escape(clean(text)))


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


def asset(name):
    """Return the text of a style sheet or script of this package, e.g. ``theme.css``."""
    return resources.files(__package__).joinpath(name).read_text('utf-8')


def page(title, *body, styles=(), script=None):
    """Return a whole document. Its policy forbids every request and every script but ``script``.

    :param styles: names of style sheets (:func:`asset`) besides those of every page.
    :param script: name of the one script, if there is any.
    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    script = asset(script) if script else None
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
            tag('style', Html(''.join(asset(name) for name in ('theme.css', 'page.css', *styles))))),
        tag('body', *body, tag('script', Html(script)) if script else None),
        lang='en')
