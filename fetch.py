#!/usr/bin/env python3
"""Published models into ComfyUI's folders, after their files, sizes and licences were shown and agreed to.

    python fetch.py                     list the models that it knows
    python fetch.py sd15 auffusion      get these two for the ComfyUI in whose custom_nodes this folder is
    python fetch.py clip --into FOLDER  into another models folder

Run it with the Python that runs ComfyUI. In the portable build, in this folder: ..\\..\\..\\python_embeded\\python.exe fetch.py
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the portable build's Python leaves out a script's own folder
from published.models import known, listing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="the models to get; without names, they are listed")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="ComfyUI's models folder, where it is not the one around this pack")
    parser.add_argument("--yes", action="store_true", help="agree to the licences that are shown, without being asked")
    arguments = parser.parse_args()
    if not arguments.names:
        print(listing("python fetch.py"))
        return 0
    try:
        models = known(arguments.names)
        from published.fetching import FetchError, fetch  # here, because the list needs none of what ComfyUI's Python has
    except ValueError as unknown:
        return fail(str(unknown))
    except ModuleNotFoundError as error:
        return fail(f"{sys.executable} has no {error.name}. ComfyUI's own Python has it: run fetch.py with that one (see fetch.py --help).")
    try:
        fetch(models, arguments.into, arguments.yes)
    except FetchError as error:
        return fail(str(error))
    return 0


def fail(why: str) -> int:
    print(f"\nfetch: {why}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
