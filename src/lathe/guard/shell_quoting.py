"""Writing a value into a line of shell so that the shell reads it as it is."""

from __future__ import annotations

import re
import shlex


def in_double_quotes(value: str) -> str:
    """Return the value as a shell reads it between double quotes."""
    return re.sub(r'([\\"$`])', r"\\\1", value)


def quoted_at(command: str, at: int, value: str) -> str:
    """Return how `value` is to be written at character `at` of `command`, where a plain word stands now.

    What quotes stand around it is told from the tree of the line. A script within a script (`bash -c '...'`) is
    quoted for the outer one alone.
    """
    if shlex.quote(value) == value:
        return value
    from lathe.guard.shell_tree import is_quoted_heredoc, parse

    source = command.encode("utf-8", "replace")
    byte = len(command[:at].encode("utf-8", "replace"))
    node = parse(source).descendant_for_byte_range(byte, byte + 1)
    while node is not None and node.type != "command_substitution":
        match node.type:
            case "raw_string":
                return value.replace("'", "'\\''")
            case "string":
                return in_double_quotes(value)
            case "ansi_c_string":
                return re.sub(r"([\\'])", r"\\\1", value)
            case "heredoc_body":
                return value if is_quoted_heredoc(node) else re.sub(r"([\\$`])", r"\\\1", value)
            case "comment":
                return value
        node = node.parent
    return shlex.quote(value)
