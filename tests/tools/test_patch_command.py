from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lathe.tools.patch_command import InterceptedPatch, intercepted_patch

PATCH = '*** Begin Patch\n*** Add File: a\n+it\'s $HOME `x` "y" \\n\n*** End Patch'
PLAIN = "*** Begin Patch\n*** Add File: a\n+x\n*** End Patch"


@pytest.mark.parametrize(
    ("command", "directory"),
    [
        (f"apply_patch <<'EOF'\n{PATCH}\nEOF", None),
        (f"  applypatch <<\"PATCH\"\n{PATCH}\nPATCH\n\n", None),
        (f"lathe apply-patch <<'EOF'\n{PATCH}\nEOF\n", None),
        (f"lathe apply-patch - <<'EOF' 2>&1\n{PATCH}\nEOF\n", None),
        (f"apply_patch <<EOF\n{PATCH}\nEOF\n", None),
        (f"cd sub/dir && apply_patch <<'EOF'\n{PATCH}\nEOF", "sub/dir"),
        (f"cd 'my dir' &&\n apply_patch <<'EOF'\n{PATCH}\nEOF", "my dir"),
        (f"cd \"my dir\" && apply_patch <<'EOF'\n{PATCH}\nEOF", "my dir"),
        (f"cat <<'EOF' | apply_patch\n{PATCH}\nEOF", None),
        (f"apply_patch \"$(cat <<'EOF'\n{PATCH}\nEOF\n)\"", None),
        (f"apply_patch {shlex.quote(PATCH)}", None),
        ("apply_patch '" + PATCH.replace("'", "'\\''") + "'", None),
        ('apply_patch "' + re.sub(r'([\\"$`])', r"\\\1", PATCH) + '"', None),
    ],
)  # fmt: skip
def test_a_command_that_only_applies_a_patch_is_recognised(command: str, directory: str | None):
    assert intercepted_patch(command) == InterceptedPatch(PATCH, directory)


def test_escapes_of_an_unquoted_here_document_are_read_as_the_shell_does():
    escaped = PATCH.replace("\\", "\\\\").replace("$", "\\$").replace("`", "\\`")
    assert intercepted_patch(f"apply_patch <<EOF\n{escaped}\nEOF") == InterceptedPatch(PATCH, None)


def test_tabs_before_an_indented_here_document_go():
    tabbed = PLAIN.replace("\n", "\n\t")
    assert intercepted_patch(f"apply_patch <<-'EOF'\n\t{tabbed}\n\tEOF") == InterceptedPatch(PLAIN, None)


@pytest.mark.parametrize(
    "command",
    [
        "ls",
        "apply_patch < patch.txt",
        "echo '*** Begin Patch'",
        f"apply_patch <<'EOF'\n{PLAIN}\nEOF\nrm -rf x",
        f"apply_patch <<'EOF' && make\n{PLAIN}\nEOF",
        f"apply_patch <<'EOF' > log\n{PLAIN}\nEOF",
        f"make; apply_patch <<'EOF'\n{PLAIN}\nEOF",
        f"cd a; apply_patch <<'EOF'\n{PLAIN}\nEOF",
        f"cd a || apply_patch <<'EOF'\n{PLAIN}\nEOF",
        f"cd $HOME && apply_patch <<'EOF'\n{PLAIN}\nEOF",
        f"cd \"$X\" && apply_patch <<'EOF'\n{PLAIN}\nEOF",
        f"cd ~ && apply_patch <<'EOF'\n{PLAIN}\nEOF",
        f"cd a && cd b && apply_patch <<'EOF'\n{PLAIN}\nEOF",
        f"cd a b && apply_patch <<'EOF'\n{PLAIN}\nEOF",
        f"sudo apply_patch <<'EOF'\n{PLAIN}\nEOF",
        f"my_apply_patch <<'EOF'\n{PLAIN}\nEOF",
        f"apply_patch --check <<'EOF'\n{PLAIN}\nEOF",
        f"apply_patch <<'EOF'\n{PLAIN}\n",
        f"apply_patch '{PLAIN}' && ls",
        f"apply_patch '{PLAIN}'; echo 'x'",
        f"apply_patch '{PLAIN}' 'more'",
        f'apply_patch "{PLAIN} $(rm x)"',
        f'apply_patch "$(cat <<\'EOF\'\n{PLAIN}\nEOF\n)" "$(rm x)"',
        f"apply_patch \"$(cat <<'EOF'\n{PLAIN}\nEOF\nrm x)\"",
        f"cat > script <<'EOF'\napply_patch '{PLAIN}'\nEOF",
    ],
)
def test_anything_else_in_a_command_leaves_it_to_the_shell(command: str):
    assert intercepted_patch(command) is None


@given(st.text(alphabet="a'\"$`\\\n =;&|<>()+-*é", max_size=60))
def test_a_quoted_patch_is_read_as_the_shell_reads_it(text: str):
    patch = f"*** Begin Patch\n*** Add File: a\n+{text}\n*** End Patch"
    assert intercepted_patch(f"apply_patch {shlex.quote(patch)}") == InterceptedPatch(patch, None)
    command = f"apply_patch '{text}*** Begin Patch{text}'{text}"
    found = intercepted_patch(command)
    if found is not None:  # then the shell agrees that it is one word, and nothing else
        assert shlex.split(command) == ["apply_patch", found.text]
