"""Complete `rebel-nerf` command lines in bash and zsh: `complete -o default -C "rebel-nerf completion" rebel-nerf`.

On each Tab, the shell runs `rebel-nerf completion` with the line up to the cursor in COMP_LINE, and offers each line of
the output. If the output is empty, the shell offers files.
"""

from __future__ import annotations

import os

from deployments.command import COMMANDS, OWN_OPTIONS, file_of

__all__ = ["complete"]

_SET_UP = """\
bash, in ~/.bashrc:

    complete -o default -C "rebel-nerf completion" rebel-nerf

zsh, in ~/.zshrc:

    autoload -U compinit bashcompinit && compinit && bashcompinit
    complete -o default -C "rebel-nerf completion" rebel-nerf

`rebel-nerf` must be on your PATH: run `source .venv/bin/activate`, or link .venv/bin/rebel-nerf into ~/.local/bin."""


def complete(line: str) -> list[str]:
    """Return the candidates for the last word of a command line: commands, options, or values of an option."""
    *before, current = line.split(" ")[1:] or [""]
    before = [word for word in before if word]
    return sorted(word for word in _words(before) if word.startswith(current))


def _words(before: list[str]) -> set[str]:
    name = next((name for name in COMMANDS if before[: len(name.split())] == name.split()), None)
    if name is None:
        names = [name.split() for name in COMMANDS]
        return {words[len(before)] for words in names if words[: len(before)] == before}
    module, _ = COMMANDS[name]
    if name in OWN_OPTIONS or not module:
        return {"--help"}
    from commands.shell import usage

    choices = usage.choices_of(usage.command_in(file_of(module)))
    if values := choices.get(before[-1]):
        return set(values)
    return set() if _takes_value(before[-1], choices) else set(choices)


def _takes_value(word: str, choices: dict[str, tuple[str, ...]]) -> bool:
    """Return whether an option expects a value. A switch has a counterpart that begins with `--no-`."""
    no = f"--no-{word.removeprefix('--')}"
    return word in choices and word != "--help" and not word.startswith("--no-") and no not in choices


def main() -> None:
    """Print the candidates for the shell's command line; without one, print how to set up completion."""
    line = os.environ.get("COMP_LINE")
    if line is None:
        print(_SET_UP)
        return
    cursor = os.environ.get("COMP_POINT", "")
    print("\n".join(complete(line[: int(cursor)] if cursor.isdigit() else line)))


if __name__ == "__main__":
    main()
