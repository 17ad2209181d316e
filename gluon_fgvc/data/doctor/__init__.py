"""What is wrong with a data set: every image is looked at once, and fingerprints are compared."""
from gluon_fgvc.data.doctor.examination import Report, count, examine, table

__all__ = ['Report', 'count', 'examine', 'table']
