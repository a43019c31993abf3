"""An audit report of one artifact or execution: a single HTML file that needs nothing else."""

from eventstore.report.report import report_html

__all__ = ["report_html"]
