"""`lathe`: finds the command and hands over; nothing is imported before it is needed."""

import sys

COMMANDS = {
    "exec": 'work on a task without a screen: lathe exec "Make the failing tests pass"',
    "resume": "go on with a thread: lathe resume [ID | --last] [PROMPT]",
    "fork": "copy a thread and go on with the copy",
    "threads": "list threads",
    "diff": "show what a thread changed",
    "mend": "repair failing tests by search, without a model",
    "apply-patch": "apply a patch in the *** Begin Patch format",
    "config": "show the configuration and where each value comes from",
    "doctor": "check what works on this machine",
}


def run() -> None:
    """The console script: exits with what `main` returns."""
    sys.exit(main(sys.argv[1:]))


def main(argv: list[str]) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    if argv and argv[0] in ("--version", "-V"):
        from lathe import __version__

        sys.stdout.write(f"lathe {__version__}\n")
        return 0
    debug = "--debug" in argv
    if debug:
        argv = [argument for argument in argv if argument != "--debug"]
    if argv and argv[0] in ("--help", "-h", "help"):
        sys.stdout.write(_help())
        return 0
    from lathe.protocol.errors import LatheError

    try:
        return _dispatch(argv)
    except LatheError as error:
        if debug:
            raise
        sys.stderr.write(f"lathe: {error}\n")
        return int(error.exit_code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader went away (`| head`): nothing is wrong, and nothing more can be said.
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(argv: list[str]) -> int:
    name, rest = (argv[0], argv[1:]) if argv else ("", [])
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
