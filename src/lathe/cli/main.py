"""`lathe`: finds the command and hands over; nothing is imported before it is needed."""

import sys

COMMANDS = {
    "exec": 'work on a task without a screen: lathe exec "Make the failing tests pass"',
    "resume": "go on with a thread: lathe resume [ID | --last] [PROMPT]",
    "fork": "copy a thread and go on with the copy",
    "threads": "list threads",
    "diff": "show what a thread changed",
    "undo": "take back the last turn of a thread, files and conversation",
    "mend": "repair failing tests by search, without a model",
    "apply-patch": "apply a patch in the *** Begin Patch format",
    "serve": "put models behind one endpoint, with keys, trusted access and receipts",
    "access": "look after a gateway: what is live, keys, people, trust, rollouts, receipts, the audit",
    "card": "write the system card of a model from its evaluations, and verify one",
    "guard": "the guard's policy: show it, test it, and see what a change would do",
    "eval": "run agents on tasks, with scores, intervals and an audit: lathe eval run DATASET --agent mend",
    "config": "show the configuration and where each value comes from",
    "doctor": "check what works on this machine",
}


def run() -> None:
    """The console script: exits with what `main` returns."""
    from lathe.cli.streams import prepare

    prepare()
    sys.exit(main(sys.argv[1:]))


def main(argv: list[str]) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    debug = "--debug" in argv
    if debug:
        argv = [argument for argument in argv if argument != "--debug"]
    try:
        code = _dispatch(argv)
        sys.stdout.flush()
        return code
    except SystemExit as leaving:  # argparse has said what it had to say
        return _sorry("", leaving.code if isinstance(leaving.code, int) else 1)
    except KeyboardInterrupt:
        return _sorry("", 130)
    except BrokenPipeError:
        # The reader went away (`| head`): nothing is wrong, and nothing more can be said.
        return _sorry("", 0)
    except Exception as error:
        if debug:
            raise
        return _sorry(*_told(error))


def _sorry(sentence: str, code: int) -> int:
    """Say what went wrong; what then can't be written any more is dropped. Return the exit code."""
    from lathe.cli.streams import let_go_of_stdout

    if sentence:
        sys.stderr.write(f"lathe: {sentence}\n")
    try:
        sys.stdout.flush()
    except OSError:
        let_go_of_stdout()
    return code


def _told(error: Exception) -> tuple[str, int]:
    """Return what a person is told of an error, and the exit code."""
    from lathe.protocol.errors import LatheError

    if isinstance(error, LatheError):
        return str(error), int(error.exit_code)
    from pathlib import Path

    try:
        Path.cwd()
    except OSError:
        return "The current folder is not there any more. Go to one that is.", 2
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror}.", 1
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"Lathe itself failed: {what[:500]}. --debug shows where.", 1


def _dispatch(argv: list[str]) -> int:
    name, rest = (argv[0], argv[1:]) if argv else ("", [])
    if name in ("--version", "-V"):
        from lathe import __version__

        sys.stdout.write(f"lathe {__version__}\n")
        return 0
    if name in ("--help", "-h", "help"):
        sys.stdout.write(_help())
        return 0
    if name not in COMMANDS:
        if name and not name.startswith("-") and not any(letter.isspace() for letter in name):
            sys.stderr.write(_no_command(name))
            return 2
        # Options, or a prompt in quotes, or nothing: the person wants to talk.
        name, rest = "interactive", argv
    import importlib

    module = importlib.import_module(f"lathe.cli.{name.replace('-', '_')}")
    code: int = module.main(rest)
    return code


def _no_command(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=1)
    guess = f" Did you mean `lathe {near[0]}`?" if near else ""
    return f'lathe: there is no command {name!r}.{guess} `lathe --help` lists them; `lathe "{name} ..."` is a prompt.\n'


def _help() -> str:
    lines = [f"  {name:<12} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: lathe [-C DIR] [-m MODEL] [-s SANDBOX] [-a APPROVE] [-i IMAGE] [PROMPT]   work in this terminal",
            "       lathe COMMAND ... [--debug]",
            "",
            *lines,
            "",
            "Each command has its own --help. Without a key, the embedded engine `mend` does the work.",
            "",
        ]
    )
