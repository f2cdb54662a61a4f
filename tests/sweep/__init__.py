"""The standing sweep: bad inputs, damaged files, other versions of ComfyUI and workflows of earlier releases, for hours.

    python3 quickstart.py --test sweep                   every part, two hours at most; goes on where it was stopped
    python3 quickstart.py --test sweep fuzz damaged      these parts; fuzz.KeepBest is one task of a part
    python3 quickstart.py --test sweep --hours 8         more examples

It ends with

    0      every task that was asked for has ended, and no case was a fault
    1      there were faults
    2      it could not begin: wrong arguments, a report that cannot be written, another sweep at work on the same tree
    3      no faults, and tasks are left: run it again
    4      the sweep itself failed
    130    it was stopped, by Ctrl-C or SIGTERM; the report holds the tasks that had ended

A part is a module named in `parts.PARTS` with TITLE, `tasks(hours)` and `run(task)`. Each task runs in a process of its own, so that a
crash or a hang is an outcome like any other; what came of it is kept outside of the tree, under a digest of the tree. A small sample with
fixed seeds is part of the ordinary suite (test_*.py here).
"""
