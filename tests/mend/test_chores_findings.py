"""Lint, layout, types and deprecated names: what is cleared, what is left, and what a test forbids."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from seeded import MakeProject, fingerprint, suite

from lathe.mend.chores.codemods import load_rules, parse_rules, rewrite
from lathe.mend.chores.deprecated import upgrade
from lathe.mend.chores.lint import lint
from lathe.mend.chores.outcome import ChoreReport
from lathe.mend.chores.typing_fixes import fix_types
from lathe.protocol.errors import UsageError
from lathe.tools.patch_apply import apply_patch

GREEN = "def test_it() -> None:\n    assert True\n"
CONFIG = '[tool.ruff.lint]\nselect = ["E", "F", "I"]\n'


def _applied(project: Path, report: ChoreReport) -> None:
    assert report.status == "done", (report.summary, report.left)
    apply_patch(report.patch, project)


def test_lint_findings_are_cleared_and_the_rest_is_listed(make_project: MakeProject) -> None:
    project = make_project(
        {
            "a.py": "import sys\nimport os\n\nx = os.sep  # keep me\nl = lambda: 1\n",
            "test_a.py": "import a\n\n\ndef test_a():\n    assert a.x\n",
            "ruff.toml": '[lint]\nselect = ["F", "E"]\n',
        }
    )
    before = fingerprint(project)
    report = lint(project, "lint", 30)
    assert fingerprint(project) == before
    _applied(project, report)
    assert (project / "a.py").read_text() == "import os\n\nx = os.sep  # keep me\nl = lambda: 1\n"
    assert any(line.startswith("a.py:4: E731") for line in report.left)
    assert "tests before: 0 failed, 1 passed; after: 0 failed, 1 passed" in report.evidence


def test_a_fix_that_breaks_a_test_is_left_out_and_the_others_are_kept(make_project: MakeProject) -> None:
    project = make_project(
        {
            "helper.py": "import json\n",
            "a.py": "import helper\nx = f'one'\n",
            "test_a.py": "import helper\n\n\ndef test_a():\n    assert helper.json\n",
            "ruff.toml": '[lint]\nselect = ["F"]\n',
        }
    )
    report = lint(project, "lint", 30)
    _applied(project, report)
    assert (project / "helper.py").read_text() == "import json\n"
    assert (project / "a.py").read_text() == "import helper\nx = 'one'\n"
    assert any(line.startswith("F401 was left") for line in report.left)


def test_code_is_laid_out_and_the_programs_stay_the_same(make_project: MakeProject) -> None:
    project = make_project({"a.py": "x = {  'a':1 }\n", "ruff.toml": 'format.quote-style = "single"\n'})
    report = lint(project, "format", 30)
    _applied(project, report)
    assert (project / "a.py").read_text() == "x = {'a': 1}\n"
    assert not report.tested
    assert lint(project, "format", 30).status == "nothing"


def test_imports_are_sorted_and_unused_ones_removed(make_project: MakeProject) -> None:
    project = make_project(
        {"a.py": "import sys\nimport os\n\nprint(os, sys)\n", "b.py": "import os\nimport sys\n\nprint(os)\n"}
    )
    _applied(project, lint(project, "imports", 30))
    assert (project / "a.py").read_text() == "import os\nimport sys\n\nprint(os, sys)\n"
    _applied(project, lint(project, "unused-imports", 30))
    assert (project / "b.py").read_text() == "import os\n\nprint(os)\n"


def test_a_project_without_ruff_is_told_how_to_get_it(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("lathe.mend.chores.lint.find_program", lambda *_: "")
    with pytest.raises(UsageError) as caught:
        lint(make_project({"a.py": "x = 1\n"}), "lint", 30)
    assert "pip install ruff" in str(caught.value)


def test_type_findings_with_one_answer_are_cleared_and_the_rest_is_listed(make_project: MakeProject) -> None:
    project = make_project(
        {
            "a.py": '''
                """Doc."""


                def greet(name: str = None, loud=False):
                    """Say hello."""
                    print(name, loud)


                class A:
                    def __init__(self):
                        self.x = 1  # type: ignore[assignment]  # keep me

                    def ok(self, n=3):
                        return f"{n}"


                def g(x: Optional[int]) -> List[str]:
                    y = []
                    y.append("a")
                    return y


                def unclear(a, b):
                    return a + b


                def wrong() -> int:
                    return "a"
                ''',
            "test_a.py": GREEN,
            "pyproject.toml": '[project]\nname = "x"\nrequires-python = ">=3.11"\n[tool.mypy]\nstrict = true\n',
        }
    )
    report = fix_types(project, 100)
    _applied(project, report)
    text = (project / "a.py").read_text()
    assert "from typing import List, Optional" in text
    assert "def greet(name: str | None = None, loud: bool = False) -> None:" in text
    assert "def __init__(self) -> None:" in text
    assert "self.x = 1  # keep me" in text
    assert "def ok(self, n: int = 3) -> str:" in text
    assert "def unclear(a, b):" in text
    assert any("[no-untyped-def]" in line for line in report.left)
    assert any("[return-value]" in line for line in report.left)
    assert len(report.left) == 2


def test_a_type_fix_that_brings_a_new_finding_is_not_kept(make_project: MakeProject) -> None:
    project = make_project(
        {
            "a.py": "def f():\n    return_value: int = 'a'\n    print(return_value)\n",
            "mypy.ini": "[mypy]\ndisallow_untyped_defs = true\n",
        }
    )
    report = fix_types(project, 60)
    assert (report.status, report.patch) == ("rejected", "")


def test_deprecated_names_get_their_successors(make_project: MakeProject) -> None:
    project = make_project(
        {
            "a.py": """
                import logging
                from collections import Mapping, deque
                from datetime import datetime
                from typing import Dict, List, Optional

                log = logging.getLogger(__name__)


                def now() -> Optional[datetime]:
                    log.warn("utcnow() is old")
                    return datetime.utcnow()


                def sizes(x: List[Dict[str, int]]) -> int:
                    return len(deque(x))
                """.replace("from collections import Mapping, deque", "from collections import deque"),
            "test_a.py": """
                import unittest

                import a


                class TestA(unittest.TestCase):
                    def test_a(self):
                        self.assertEqual(a.sizes([{}]), 1)
                        assert a.now()
                """,
            "pyproject.toml": '[project]\nname = "x"\nrequires-python = ">=3.9"\n',
        }
    )
    report = upgrade(project, [], 60)
    _applied(project, report)
    text = (project / "a.py").read_text()
    assert "from datetime import datetime, timezone\n" in text
    assert "datetime.now(timezone.utc)" in text
    assert 'log.warning("utcnow() is old")' in text
    assert "def sizes(x: list[dict[str, int]]) -> int:" in text
    assert "from typing import Optional\n" in text
    assert suite(project) == 0
    assert any("warn while the tests run: 1 before, 0 after" in line for line in report.evidence)
    assert upgrade(project, [], 60).status == "nothing"


def test_a_successor_that_breaks_a_test_is_left_out_and_named(make_project: MakeProject) -> None:
    project = make_project(
        {
            "a.py": """
                import logging
                from datetime import datetime

                log = logging.getLogger(__name__)


                def age(since):
                    log.warn("looking")
                    return (datetime.utcnow() - since).days
                """,
            "test_a.py": """
                from datetime import datetime

                import a


                def test_age():
                    assert a.age(datetime(2020, 1, 1)) > 0
                """,
        }
    )
    report = upgrade(project, [], 60)
    _applied(project, report)
    text = (project / "a.py").read_text()
    assert "log.warning" in text
    assert "datetime.utcnow()" in text
    assert any(line.startswith("utcnow was left as it is") and "test_age" in line for line in report.left)


def test_names_in_the_request_narrow_the_rules(make_project: MakeProject) -> None:
    project = make_project({"a.py": "import logging\nimport time\nlogging.warn('x')\nt = time.clock()\n"})
    _applied(project, upgrade(project, ["time.clock"], 30))
    assert (project / "a.py").read_text() == "import logging\nimport time\nlogging.warn('x')\nt = time.perf_counter()\n"
    with pytest.raises(UsageError) as caught:
        upgrade(project, ["frobnicate"], 30)
    assert "No rule is known for frobnicate" in str(caught.value)


def test_every_rule_of_the_table_does_what_its_examples_say() -> None:
    assert len(load_rules()) >= 50


def test_a_rule_whose_example_is_wrong_does_not_load() -> None:
    rule = '[[rule]]\nid = "x"\nmatch = "os.errno"\nreplace = "errno:errno"\nsince = "s"\n'
    rule += 'examples = [{before = "a\\n", after = "b\\n"}]\n'
    with pytest.raises(ValueError, match="Rule x turns"):
        parse_rules(rule)


def test_a_name_with_two_meanings_is_left_alone() -> None:
    text = "try:\n    from collections.abc import Mapping\nexcept ImportError:\n    from collections import Mapping\n"
    text += "x = Mapping\n"
    assert all(rewrite(text, rule) == text for rule in load_rules())


def test_programs_are_found_beside_the_interpreter() -> None:
    from lathe.mend.chores.commands import find_program

    assert find_program("ruff", Path("/nowhere"), sys.executable).startswith(os.path.dirname(sys.executable))
