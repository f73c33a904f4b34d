"""The command `rebel-nerf`, which starts every program of the project.

`rebel-nerf run --scene facade` is `python -m flows.nerf --scene facade`, and so on for each entry of `COMMANDS`. A
program is imported only when it runs, so that the list of commands appears at once.
"""

from __future__ import annotations

import difflib
import os
import re
import runpy
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from jobs.environment import FOR_PREFECT, child_environment
from jobs.program import typed

__all__ = ["COMMANDS", "OWN_OPTIONS", "file_of", "main"]

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("commands.demo", "Make a fly-through of a built-in street front, on the CPU."),
    "run": ("flows.nerf", "Turn photos of a scene into a dataset, a model and a video."),
    "render": ("flows.render", "Render another video of a scene's model."),
    "pick": ("commands.pick", "Make the page for measuring, and picking known lengths, in photos."),
    "markers": ("commands.markers", "Make a PDF of markers to print, whose size gives a scene its scale."),
    "scale": ("flows.scale", "Give a scene a scale in metres, from measurements."),
    "export": ("flows.export", "Export a scene's model as a point cloud, mesh or splats."),
    "view": ("commands.view", "Open the live viewer of a training or of a finished model."),
    "list": ("commands.list", "List the scenes of a workspace, or the versions of one."),
    "page": ("commands.page", "Open the page of a scene."),
    "gallery": ("commands.gallery", "Make one page of all scenes."),
    "pin": ("commands.pin", "Choose the model that a scene is shown by."),
    "note": ("commands.note", "Attach a note to a model."),
    "rm": ("commands.rm", "Remove a scene, or a model with what was made from it."),
    "path": ("commands.path", "Save a camera path that was made in the viewer."),
    "reprocess": ("flows.reprocess", "Process new captures."),
    "clean-up": ("flows.clean_up", "Cancel the jobs that no run waits for."),
    "server": ("deployments.server", "Start the Prefect server."),
    "worker": ("deployments.worker", "Start a worker, which executes flow runs."),
    "doctor": ("deployments.doctor", "Check everything that a run needs."),
    "costs": ("commands.costs", "Show what scenes cost, by month."),
    "prune": ("commands.prune", "Show what takes space, and remove old versions."),
    "deploy": ("", "Register the deployments with the Prefect server."),
    "prefect": ("deployments.prefect", "Run a command of Prefect's, signed in to the server."),
    "azure setup": ("deployments.azure.setup", "Set up an Azure ML workspace."),
    "azure transfer": ("deployments.azure.transfer", "Copy photos to Azure, and results back."),
    "azure events": ("deployments.azure.events", "Report new photos in blob storage to Prefect."),
    "completion": ("deployments.completion", "Complete command lines in bash and zsh."),
}
"""Each command's module and one sentence on what it does."""

_OF_OTHERS = {
    "process": "run",
    "train": "run",
    "video": "render",
    "viewer": "view",
    "show": "page",
    "open": "page",
    "ls": "list",
    "remove": "rm",
}
"""What other programs call a command, and ours."""

OWN_OPTIONS = ("server", "prefect", "completion")
"""Commands that read the command line themselves, or leave it to Prefect."""

_OWN = ("blocks", "commands", "deployments", "flows", "jobs", "tasks")


def main() -> None:
    """Run the command that the command line names; exit with 2 if there is no such command."""
    try:
        _main()
    except ImportError as error:
        if (error.name or "").partition(".")[0] in _OWN:
            raise
        sys.exit(f"rebel-nerf is not installed completely: {error}. Run: make clean && make .venv/installed")


def _main() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return
    if arguments[0] == "--version":
        print(f"rebel-nerf {version('rebel-nerf')}")
        return
    words = 2 if arguments[0] == "azure" else 1
    name = " ".join(arguments[:words])
    if name not in COMMANDS:
        print(_unknown(name), file=sys.stderr)
        sys.exit(2)
    module, _ = COMMANDS[name]
    sys.argv = [f"rebel-nerf {name}", *arguments[words:]]
    if name == "deploy":
        if sys.argv[1:]:
            print("usage: rebel-nerf deploy\n\nRegister the deployments of ./prefect.yaml. There are no options.")
            sys.exit(0 if sys.argv[1:] == ["--help"] else 2)
        _deploy()
        return
    if name not in OWN_OPTIONS:  # show help and check the command line before the slow import of Prefect
        from commands.shell import usage

        usage.started_as = sys.argv[0]
        usage.parse(usage.command_in(file_of(module)), sys.argv[1:], sys.argv[0])
    # Pydantic looks types up in sys.modules["__main__"], which must be the program instead of this module.
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def file_of(module: str) -> Path:
    """Return the file of a module of this project, without importing the module."""
    return Path(__file__).parents[1].joinpath(*module.split(".")).with_suffix(".py")


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {sentence}" for name, (_, sentence) in COMMANDS.items()]
    title = "rebel-nerf COMMAND [OPTIONS]: from photos of a place to a fly-through of its NeRF."
    more = "COMMAND --help lists a command's options, and --version prints the version."
    return "\n".join([title, *lines, more])


def _unknown(name: str) -> str:
    words = name.split()
    if words[0] == "azure" and (len(words) < 2 or words[1].startswith("-")):
        known = ", ".join(f"`{typed(each)}`" for each in COMMANDS if each.startswith("azure "))
        return f"rebel-nerf azure is incomplete. There are {known}."
    near = next(iter(difflib.get_close_matches(name, COMMANDS, n=1)), None)
    meant = _OF_OTHERS.get(name, near)
    hint = f" Did you mean `{typed(meant)}`?" if meant else ""
    return f"rebel-nerf has no command {name!r}.{hint} `{typed('--help')}` lists all commands."


def _deploy() -> None:
    """Create the work pool and register the deployments of `prefect.yaml` in the current folder."""
    if not Path("prefect.yaml").is_file():
        sys.exit("rebel-nerf deploy: there is no prefect.yaml in this folder. Run it in the project's folder.")
    _run_quietly("deployments.worker", "--pool-only")
    output = _run_quietly("deployments.prefect", "--no-prompt", "deploy", "--all")
    for name in re.findall(r"Deployment '([^']+)' successfully", output):  # Prefect prints ten lines for each
        print(f"deployment {name}: registered")
    if os.environ.get("REBEL_NERF_WEBHOOK_URL") or os.environ.get("REBEL_NERF_NOTIFICATION_BLOCK"):
        print(_run_quietly("deployments.notifications"), end="")
    print(f"Start a run: {typed('prefect deployment run nerf/scene -p scene=NAME -p images=FOLDER')}")


def _run_quietly(*program: str) -> str:
    """Run a program and return what it prints. If it fails, show that, and exit with its status."""
    defaults = {"PREFECT_API_URL": "http://127.0.0.1:4200/api", "REBEL_NERF_PROJECT": os.getcwd()}
    command = [sys.executable, "-m", *program]
    done = subprocess.run(command, env=defaults | child_environment(FOR_PREFECT), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stdout)
        sys.exit(done.returncode)
    return done.stdout


if __name__ == "__main__":
    main()
