"""Writing files in one step."""
import os


def write_text(path, text):
    """Write ``text`` to ``path`` in one step, so that a reader sees the old file or the new one; return the path."""
    temporary = f'{path}.tmp'
    with open(temporary, 'w', encoding='utf-8') as stream:
        stream.write(text)
    os.replace(temporary, path)
    return str(path)
