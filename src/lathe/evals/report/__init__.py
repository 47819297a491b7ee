"""The report of a run: one page that works from a file, and the same as JSON and Markdown."""

from lathe.evals.report.document import Report, TaskRow, build
from lathe.evals.report.files import write_report

__all__ = ["Report", "TaskRow", "build", "write_report"]
