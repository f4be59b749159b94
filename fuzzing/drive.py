"""One target under atheris, which ends the process: ``python -m fuzzing`` starts this and reads what it says.

python -m fuzzing.drive TARGET [libFuzzer's options and directories]
"""

from __future__ import annotations

import shlex
import sys
from random import Random

import atheris
from atheris.import_hook import HookManager
from fuzzing.harness import in_time, load


def main(name: str, options: list[str]) -> None:
    """Run until libFuzzer's options say stop, or until a finding."""
    # Branches alone, of our own code: atheris.instrument_imports() would trace comparisons too, at a quarter of the
    # speed, for what the mutations of the targets know already.
    with HookManager({"fairlead"}, set(), enable_loader_override=False, trace_dataflow=False):
        target = load(name)
    random = Random(0)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        return target.mutate(data, random, lambda some: bytes(atheris.Mutate(some, max_size)))[:max_size]

    # libFuzzer's merge starts itself again, by a shell, with what it takes for the program's name.
    itself = f"{shlex.quote(sys.executable)} -m fuzzing.drive {name}"
    atheris.Setup([itself, *options], in_time(target.check), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
