#!/usr/bin/env python3
"""Images that sound, from nothing: `python3 quickstart.py` makes one on this machine, through the real ComfyUI.

    python3 quickstart.py            make a picture that is a sound, into output/
    python3 quickstart.py --serve    leave ComfyUI's own pages open in the browser, with the templates in them
    python3 quickstart.py --fetch    list the published models that it can get; with names, get them after showing size and licence
    python3 quickstart.py --test     run the whole test suite; what follows --test goes to pytest, which then runs alone
    python3 quickstart.py --test sweep   bad inputs, damaged files, other versions of ComfyUI, for two hours; goes on where it was
    python3 quickstart.py --test full    the suite at full size: Stable Diffusion 1.5 and Auffusion with random weights

The first run gets everything it needs (torch is large); later runs start in seconds. Standard library only, Python 3.10 or later.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036  (the one line that an older Python reaches)
    sys.exit(f"quickstart.py needs Python 3.10 or later; this is {sys.version.split()[0]}. Run it with a newer one, as python3.12.")

import argparse
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from launch import workflow
from launch.environment import (
    FLOOR,
    NEWEST,
    NEWEST_FRONT_END,
    REPO,
    QuickstartError,
    cache_folder,
    comfyui,
    environment,
    front_end,
    has_accelerator,
    models_folder,
    own_comfyui,
    say,
    serve_folder,
    share_models,
)
from launch.server import Server, free_port
from published.models import known, listing

TEMPLATE = REPO / "workflows" / "10 Inside one sample.json"
OUTPUT = REPO / "output"
DEFAULT_PORT = 8188
KINDS = {".png": "picture", ".flac": "sound", ".mp4": "video"}


def main() -> int:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped then too
    try:
        if arguments.fetch is not None:
            return fetch(arguments.fetch, arguments.into, arguments.yes)
        python = environment()
        if arguments.test is not None:
            return test(python, arguments.test)
        port = free_port(arguments.port or DEFAULT_PORT)
        if arguments.port not in (None, port):
            raise QuickstartError(f"port {arguments.port} is in use. Name another, or leave --port out and a free one is taken.")
        device = () if has_accelerator(python) else ("--cpu",)
        base = serve_folder() if arguments.serve else cache_folder() / "run"  # apart, because a running server locks its data base
        own = own_comfyui() if arguments.serve else None
        models = ("--extra-model-paths-config", str(share_models(own, base))) if own else ()
        server = Server(python, comfyui(NEWEST, python), base, OUTPUT, port, (*device, *models))
        say(f"Starting ComfyUI {'on the CPU' if device else 'on the GPU'} ...")
        with server:
            if arguments.serve:
                serve(server)
            else:
                make_one(server, arguments)
    except QuickstartError as error:
        say(f"\nquickstart: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nStopped.")
        return 0 if arguments.test is None else 130  # tests that were stopped have not passed
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-prompt", help="what the canvas looks like, for example 'a drawing of castles'")
    parser.add_argument("--audio-prompt", help="what it sounds like, for example 'church bell ringing'")
    parser.add_argument("--seed", type=int, help="the start noise; much depends on it, so try several")
    parser.add_argument("--steps", type=int, help="denoising steps")
    parser.add_argument("--serve", action="store_true", help="leave ComfyUI running and open to the browser")
    parser.add_argument("--port", type=int, help=f"the server's port; {DEFAULT_PORT}, or a free one where that is taken")
    parser.add_argument("--fetch", nargs="*", metavar="NAME", help="get these published models; without names, list them")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="ComfyUI's models folder, for --fetch")
    parser.add_argument("--yes", action="store_true", help="agree to the licences that --fetch shows, without being asked")
    parser.add_argument("--test", nargs=argparse.REMAINDER, metavar="...", help="run the whole suite, or pytest with these arguments")
    arguments = parser.parse_args()
    if arguments.fetch is None and (arguments.into or arguments.yes):
        parser.error("--into and --yes belong to --fetch")
    return arguments


def fetch(names: list[str], into: Path | None, agreed: bool) -> int:
    """What fetch.py does, by this script's environment, for the ComfyUI that `--serve` opens; the list needs no environment."""
    if not names:
        say(listing("python3 quickstart.py --fetch"))
        return 0
    try:
        known(names)
    except ValueError as unknown:
        raise QuickstartError(str(unknown)) from None
    folder = into or models_folder()
    if not into:
        finder = "the ComfyUI of COMFYUI_PATH" if own_comfyui() else "quickstart.py --serve"
        say(f"{folder} is where {finder} looks. For another ComfyUI, name its models folder with --into.")
    command = [environment(), REPO / "fetch.py", *names, "--into", folder, *(["--yes"] if agreed else [])]
    return subprocess.run(command).returncode


def serve(server: Server) -> None:
    say(f"\nComfyUI is open at {server.url}")
    say("The templates are under Templates > images-that-sound: open one, change a prompt, press Run. Ctrl-C here stops the server.")
    say(f"Models of your own go into {models_folder()} (--fetch gets some); what is saved goes into {server.output}.")
    server.wait()
    raise QuickstartError(f"ComfyUI ended by itself. The end of {server.log}:\n{server.log_tail()}")


def make_one(server: Server, arguments: argparse.Namespace) -> None:
    """Run the template with the wished prompts, seed and steps, showing each stage and its time, then say what came out."""
    prompt = workflow.to_prompt(workflow.load(TEMPLATE), server.get("/object_info"))
    sampler = workflow.node_of(prompt, "MultimodalKSampler")
    video = workflow.node_of(prompt, "PlayheadVideo")
    wishes = [
        (video, "image_prompt", arguments.image_prompt),
        (video, "audio_prompt", arguments.audio_prompt),
        (sampler, "seed", arguments.seed),
        (sampler, "steps", arguments.steps),
    ]
    for inputs, name, wish in wishes:
        if wish is not None:
            workflow.set_value(prompt, inputs, name, wish)
    looks_like, sounds_like = (workflow.value(prompt, video, name) for name in ("image_prompt", "audio_prompt"))
    say(f'Making a picture of "{looks_like}" that sounds like "{sounds_like}" (seed {sampler["seed"]}, {sampler["steps"]} steps) ...')
    files = run_with_progress(server, prompt)
    say(f'\nThe picture looks like "{looks_like}". It is a spectrogram, and its sound is like "{sounds_like}":')
    for kind, path in files:
        say(f"  {kind:8} {path}")
    say("The models are small ones that ship with the pack: expect sketches. Another --seed gives another try.")


def run_with_progress(server: Server, prompt: workflow.Prompt) -> list[tuple[str, Path]]:
    """Print each node's title and seconds as it ends, and the sampler's steps on the way; returns (kind, path) of the saved files."""
    titles = {node_id: node["_meta"]["title"] for node_id, node in prompt.items()}
    files: list[tuple[str, Path]] = []
    running: str | None = None
    began = start = time.monotonic()
    clear_line = "\r\033[K" if sys.stdout.isatty() else ""
    for kind, data in server.run(prompt):
        now = time.monotonic()
        if kind == "progress" and running and clear_line:
            print(f"{clear_line}  {now - began:6.1f} s  {titles[running]}: {data['value']} of {data['max']}", end="", flush=True)
        elif kind == "executed":
            files += [(KINDS.get(path.suffix, "file"), path) for path in server.saved(data)]
        elif kind in ("executing", "execution_success"):
            if running:
                say(f"{clear_line}  {now - began:6.1f} s  {titles[running]}")
            running, began = data.get("node"), now
    say(f"  {time.monotonic() - start:6.1f} s  in all")
    return files


def test(python: Path, pytest_arguments: list[str]) -> int:
    """The linter, the type checker, the tests on the newest ComfyUI, then nodes and server tests on the oldest that is supported."""
    newest = comfyui(NEWEST, python)
    front_end(NEWEST_FRONT_END, python)
    install_browser()
    if pytest_arguments[:1] == ["sweep"]:
        return sweep(python, pytest_arguments[1:])
    floor = comfyui(FLOOR, python)
    tests = [str(python), "-m", "pytest", "--durations=10"]
    # Files side by side, in their order: the slow ones, tests/comfyui, come first.
    side_by_side = [*tests, "--numprocesses=2", "--dist=loadfile", "--no-loadscope-reorder"]
    steps = [
        ("linter", [str(python), "-m", "ruff", "check", "."], newest),
        ("type checker", [str(python), "-m", "basedpyright"], newest),
        (f"tests on ComfyUI {NEWEST}", side_by_side, newest),
        (f"tests on ComfyUI {FLOOR}", [*side_by_side, "tests/comfyui", "tests/nodes", "-m", "not browser"], floor),
    ]
    threads = {"OMP_NUM_THREADS": "1"}  # a process: on models as small as the tests', threads cost more than they gain
    if pytest_arguments[:1] == ["full"]:
        pytest_arguments = ["tests/full", "-m", "full", *pytest_arguments[1:]]
    if pytest_arguments:
        steps, threads = [(f"pytest on ComfyUI {NEWEST}", [*tests, *pytest_arguments], newest)], {}
    failed = []
    for name, command, comfyui_folder in steps:
        say(f"\n== {name}")
        start = time.monotonic()
        variables = {**threads, **os.environ, "COMFYUI_PATH": str(comfyui_folder)}
        code = subprocess.run(command, cwd=REPO, env=variables).returncode
        say(f"== {name}: {'passed' if code == 0 else 'FAILED'} in {time.monotonic() - start:.0f} s")
        failed += [name] if code else []
    say(f"\nFAILED: {', '.join(failed)}" if failed else "\nEverything passed.")
    return bool(failed)


def sweep(python: Path, arguments: list[str]) -> int:
    """The standing sweep, which stops by itself on Ctrl-C: it has its tasks to end and its report to write."""
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO / "tests"), str(REPO)])}
    with subprocess.Popen([python, "-m", "sweep", *arguments], cwd=REPO, env=paths) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            say("\nStopping; the report is written first ...")
            return process.wait()
        except SystemExit:  # SIGTERM, which came to this process alone
            process.terminate()
            return process.wait()


def install_browser() -> None:
    """The browser tests drive Debian's chromium; where it is missing and we may, it is installed, else they are skipped and say so."""
    if shutil.which("chromium"):
        return
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        say("Installing chromium for the browser tests ...")
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]):
            quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=quiet)
    if not shutil.which("chromium"):
        say("No chromium here and no right to install it: the browser tests will be skipped. On Debian: apt-get install chromium.")


if __name__ == "__main__":
    sys.exit(main())
