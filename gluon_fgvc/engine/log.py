"""The log of a run: terminal, ``log.txt``, ``metrics.jsonl`` and ``metrics.csv``."""
import csv
import datetime
import io
import json
import sys
from pathlib import Path

from tqdm import tqdm

from gluon_fgvc.files import append, write_atomically


class Log:
    """Writes lines for people and records for programs into ``folder``.

    :param completed: number of completed epochs; records of later ones, left by a run that was cut off,
        are dropped so that a resumed log equals an uninterrupted one.
    """

    def __init__(self, folder, completed=0):
        self.folder = Path(folder)
        self.records = []
        path = self.folder / 'metrics.jsonl'
        if path.exists():
            for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
                try:
                    record = json.loads(line)
                    if record['epoch'] < completed:
                        self.records.append(record)
                except (ValueError, TypeError, KeyError):
                    break  # the line that the cut went through
        write_atomically(path, ''.join(json.dumps(record) + '\n' for record in self.records))

    def line(self, text):
        """Print ``text`` (through the progress bar, if one is shown) and add it, dated, to ``log.txt``."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
        stamp = datetime.datetime.now().strftime('%Y-%m-%d %H:%M:%S')
        append(self.folder / 'log.txt', f'{stamp} {text}\n')

    def record(self, **values):
        """Add one record to ``metrics.jsonl``; records of kind 'epoch' are the rows of ``metrics.csv``."""
        self.records.append(values)
        append(self.folder / 'metrics.jsonl', json.dumps(values) + '\n')
        if values['kind'] == 'epoch':
            self._write_table()

    def _write_table(self):
        epochs = [record for record in self.records if record['kind'] == 'epoch']
        rows = [{key: value for key, value in record.items() if key != 'kind'} for record in epochs]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.folder / 'metrics.csv', text.getvalue())


def progress(total, label, unit='img'):
    """Return a progress bar on a terminal, and a silent one elsewhere."""
    return tqdm(total=total, desc=label, unit=unit, leave=False, dynamic_ncols=True, disable=not sys.stderr.isatty())
