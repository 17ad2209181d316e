"""report.html: what a run learned, how sure that is, and where it errs, in one file that needs no network."""
from pathlib import Path

from gluon_fgvc import run_folder as run_files
from gluon_fgvc.files import write_atomically
from gluon_fgvc.pages import pictures
from gluon_fgvc.pages.markup import page, tag
from gluon_fgvc.pages.report.calibration import calibration_section
from gluon_fgvc.pages.report.classes import certainty_section, classes_section, confusion_section, groups_section
from gluon_fgvc.pages.report.curves import training_section
from gluon_fgvc.pages.report.details import details_section
from gluon_fgvc.pages.report.head import header, title_of
from gluon_fgvc.pages.report.images import errors_section, looks_section
from gluon_fgvc.pages.report.operating import points_section, selective_section
from gluon_fgvc.pages.report.pairs import pairs_section
from gluon_fgvc.pages.report.parts import value_at
from gluon_fgvc.run_folder import RunFolder


def write_report(folder, out=None, *, read=pictures.read, look=None):
    """Write the report of the run folder ``folder`` to ``out`` (default: report.html in it).

    Reads config.yaml, env.json, classes.json, metrics.jsonl, predictions.csv, evaluation.json and, where it
    exists, test_evaluations.jsonl. A section whose file is absent or broken says so. Epochs are counted
    from 1, as in the log.

    :param read: path of predictions.csv → image, (H,W,3) uint8 RGB, or None if it cannot be had; not every
        data set keeps an image a file.
    :param look: path and name of the label → :class:`~gluon_fgvc.pages.maps.Row`, or None; without it
        the report has no section of where the network looks.
    :returns: the path written.
    :raises CheckpointError: if ``folder`` is not a run folder.
    """
    run = run_files.read(folder)
    out = Path(out) if out is not None else RunFolder(run.folder).report
    sections = [training_section(run), confusion_section(run), pairs_section(run, read), groups_section(run),
                certainty_section(run), classes_section(run), errors_section(run, read),
                looks_section(run, look), calibration_section(run), selective_section(run), points_section(run),
                details_section(run)]
    text = page(f"{title_of(run)} on {value_at(run.config, 'data', 'name')}", header(run), tag('main', sections),
                styles=('maps.css', 'report.css'), script='sort.js')
    return write_atomically(out, text)
