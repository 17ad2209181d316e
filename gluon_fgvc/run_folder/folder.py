"""The names of a run folder's files, and how each is read and written."""
import json
import re
from pathlib import Path

from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.files import append, lock, remove, write_atomically
from gluon_fgvc.run_folder.predictions import PREDICTION_COLUMNS, table

# Of an evaluation of the test split, what is listed for good.
_LISTED = ('evaluated_at', 'checkpoint', 'chosen_by', 'images', 'loss', 'top1', 'views', 'ensemble',
           'engine')

_MEASURED = re.compile(r'(lr|loss|step|seconds|images_per_s|(train|val)_\w+)\Z')  # keys of numbers in the log's records


def check_measures(record):
    """Raise ValueError where what was measured is no number in ``record``, a dict, of the log for programs."""
    for key, value in record.items():
        if _MEASURED.match(key) and not isinstance(value, (int, float, type(None))):
            raise ValueError(f"'{key}' is {value!r:.40}, not a number")


class _Entry:
    """A file or folder of a run: asked of :class:`RunFolder` its name, of one run folder its path."""

    def __init__(self, name):
        self.name = name

    def __get__(self, run, owner):
        return self.name if run is None else run.path / self.name


class RunFolder:
    """What a training and what follows it leave in the folder ``path``.

    Texts are UTF-8, writes are atomic or add a line. Readers return None, or an empty list, where a file is absent.
    """

    config = _Entry('config.yaml')                      # resolved: it reruns the run. What has one is a run folder
    classes = _Entry('classes.json')                    # names of the classes, in the order of the labels
    split = _Entry('split.json')                        # which images are in which split, as hashes
    environment = _Entry('env.json')                    # versions, processor, threads
    widths = _Entry('widths.json')                      # the channel plan of a pruned backbone
    pruned = _Entry('pruned.params')                    # what the training of a pruned network begins with
    pruning = _Entry('prune.json')                      # what was pruned, cost and saved
    last = _Entry('last.json')                          # manifest: where a resumed training goes on
    previous = _Entry('previous.json')                  # manifest: the checkpoint before the last
    best = _Entry('best.json')                          # manifest: the epoch that validation chose
    checkpoints = _Entry('checkpoints')                 # folder of the files that the manifests name
    log = _Entry('log.txt')                             # lines for people
    metrics = _Entry('metrics.jsonl')                   # records for programs, of steps, epochs and methods
    metrics_table = _Entry('metrics.csv')               # the records of epochs once more
    tensorboard = _Entry('tensorboard')                 # folder of the records as curves for TensorBoard
    evaluation = _Entry('evaluation.json')              # best checkpoint, test split, a single view; others by suffix
    predictions = _Entry('predictions.csv')             # of that evaluation, image by image
    test_evaluations = _Entry('test_evaluations.jsonl')  # every one there ever was
    report = _Entry('report.html')
    maps = _Entry('maps.html')                          # pictures of where the network looks
    export = _Entry('export')                           # folder of the exported model
    study = _Entry('study.json')                        # what a study knows about the run
    lock_file = _Entry('.lock')                         # held by the process that trains

    def __init__(self, path):
        self.path = Path(path)

    def __fspath__(self):
        return str(self.path)

    __str__ = __fspath__

    @property
    def is_run(self):
        """Whether a run has begun here."""
        return self.config.is_file()

    @property
    def has_checkpoint(self):
        """Whether there is something to resume; another run must not take its place."""
        return self.last.exists()

    # --- what describes the run --------------------------------------------------------------

    def describe(self, config, classes, split, environment):
        """Write what a run is, before it begins; the configuration last, which makes it a run folder.

        :param config: the text of the resolved configuration.
        """
        write_atomically(self.classes, json.dumps(list(classes), indent=1, ensure_ascii=False) + '\n')
        write_atomically(self.split, json.dumps(split, indent=1) + '\n')
        write_atomically(self.environment, json.dumps(environment, indent=1) + '\n')
        write_atomically(self.config, config)

    def read_classes(self):
        """Return the names of the classes, or None.

        :raises CheckpointError: if the file holds something else.
        """
        classes = _read_json(self.classes)
        if classes is not None and not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
            raise CheckpointError(f"'{self.classes}' is not a list of class names")
        return classes

    def read_split(self):
        """Return what :func:`gluon_fgvc.data.split_record` said when training began; None in runs of old versions.

        :raises CheckpointError: if the file holds something else.
        """
        record = _read_json(self.split)
        if record is not None and not (isinstance(record, dict) and isinstance(record.get('splits'), dict)):
            raise CheckpointError(f"'{self.split}' is not the record of a split: 'splits' is missing")
        return record

    def read_environment(self):
        """Return versions, processor and threads of the training, or None."""
        return _read_json(self.environment)

    def write_widths(self, plan):
        """Write the channel plan: bytes as they are, or a tree."""
        write_atomically(self.widths, plan if isinstance(plan, bytes) else json.dumps(plan, indent=1) + '\n')

    def write_pruning(self, record):
        """Write what was pruned, cost and saved."""
        write_atomically(self.pruning, json.dumps(record, indent=1) + '\n')

    def lock(self):
        """Return a context in which no other process trains here.

        :raises CheckpointError: if one does.
        """
        try:
            return lock(self.lock_file)
        except BlockingIOError:
            raise CheckpointError(f"another process is training in '{self}'; wait for its end, or name another "
                                  '--work-dir') from None

    # --- what training says ------------------------------------------------------------------

    def add_to_log(self, line):
        """Add ``line`` to the log for people."""
        append(self.log, line + '\n')

    def read_records(self):
        """Return the records of the log for programs, dicts with ``kind`` and ``epoch``, oldest first.

        They end where a line cannot be read, as a killed process leaves it, or where what was measured is no number.
        """
        records = []
        if self.metrics.exists():
            for line in self.metrics.read_text(encoding='utf-8', errors='replace').splitlines():
                try:
                    record = json.loads(line)
                    check_measures(record)
                    whole = isinstance(record['epoch'], int) and isinstance(record['kind'], str)
                except (ValueError, TypeError, KeyError, AttributeError):
                    whole = False
                if not whole:
                    break
                records.append(record)
        return records

    def write_records(self, records):
        """Replace the log for programs."""
        write_atomically(self.metrics, ''.join(json.dumps(record) + '\n' for record in records))

    def add_record(self, record):
        """Add one record to the log for programs."""
        append(self.metrics, json.dumps(record) + '\n')

    def write_metrics_table(self, records):
        """Write the records of epochs among ``records`` as a table."""
        rows = [{key: value for key, value in record.items() if key != 'kind'}
                for record in records if record['kind'] == 'epoch']
        columns = list(dict.fromkeys(key for row in rows for key in row))
        write_atomically(self.metrics_table, table(columns, ([row.get(key, '') for key in columns] for row in rows)))

    def best_so_far(self):
        """Return what the best checkpoint was chosen by, a dict with ``epoch`` and ``split``, its files unverified.

        :raises CheckpointError: if there is none.
        """
        try:
            return _read_json(self.best)['chosen_by']
        except (KeyError, TypeError):
            raise CheckpointError(f"'{self}' has no 'best' checkpoint yet") from None

    def forget_checkpoints(self):
        """Remove the manifests: of a run that ended before there was a checkpoint to resume."""
        for manifest in (self.best, self.previous):
            remove(manifest)

    # --- what evaluations say ----------------------------------------------------------------

    def evaluation_file(self, suffix=''):
        """Return the path of the evaluation that :func:`suffix_of` tells from others."""
        return _with_suffix(self.evaluation, suffix)

    def predictions_file(self, suffix=''):
        """Return the path of the predictions of that evaluation."""
        return _with_suffix(self.predictions, suffix)

    def read_evaluation(self, suffix=''):
        """Return an evaluation, or None.

        :raises CheckpointError: if the file is not valid JSON.
        """
        return _read_json(self.evaluation_file(suffix))

    def write_evaluation(self, result, rows):
        """Write an evaluation and its predictions; one of the test split is listed before its figures can be read.

        :param result: what :func:`gluon_fgvc.engine.evaluate.evaluation` returns.
        :param rows: of the table of predictions, each with the values of ``PREDICTION_COLUMNS``.
        """
        suffix = suffix_of(result['split'], result['checkpoint'], result.get('views'))
        text = table(PREDICTION_COLUMNS, rows)
        self.list_test(result)
        write_atomically(self.predictions_file(suffix), text)
        write_atomically(self.evaluation_file(suffix), json.dumps(result, indent=1) + '\n')

    def list_test(self, result):
        """Add evaluation ``result`` to those of the test split, if it is of that split.

        All are listed, so that nobody has to trust that there was only one.
        """
        if result['split'] == 'test':
            record = {key: result[key] for key in _LISTED if key in result}
            append(self.test_evaluations, json.dumps(record) + '\n')

    def count_tests(self):
        """Return how often the test split was evaluated."""
        try:
            return len(self.test_evaluations.read_text(encoding='utf-8').splitlines())
        except FileNotFoundError:
            return 0

    # --- what a study knows ------------------------------------------------------------------

    def read_study(self):
        """Return what a study wrote here, or None.

        :raises CheckpointError: if the file is not valid JSON.
        """
        return _read_json(self.study)

    def write_study(self, record):
        """Write what a study knows about the run."""
        write_atomically(self.study, json.dumps(record, indent=1) + '\n')


def suffix_of(split, checkpoint='best', views=None):
    """Return what the names of an evaluation's files carry: what differs from the usual."""
    words = ((split, 'test'), (checkpoint, 'best'), (views, None))
    return ''.join(f'_{word}' for word, usual in words if word != usual)


def runs_in(folder):
    """Return the run folders that lie in ``folder``, sorted by name: of one configuration, the newest last."""
    return sorted(path.parent for path in Path(folder).glob(f'*/{RunFolder.config}'))


def _with_suffix(path, suffix):
    return path.with_name(f'{path.stem}{suffix}{path.suffix}')


def _read_json(path):
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return None
    except ValueError:  # not UTF-8, or not JSON
        raise CheckpointError(f"'{path}' is not valid JSON") from None
