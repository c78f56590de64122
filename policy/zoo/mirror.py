"""Copy a whole zoo into a folder, which is then a source itself: on a disk, or served by any web server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prunepolicy.policy.zoo.pull import bring, difference
from prunepolicy.policy.zoo.transfer import check_place
from prunepolicy.policy.zoo.zoo_handle import INDEX, Zoo
from prunepolicy.pruning.io.atomic import as_sentence, check_target, publish, write_bytes
from prunepolicy.pruning.io.claim import claimed, claiming, release
from prunepolicy.pruning.io.working_folder import discard, working_folder


def mirror(zoo: Zoo, folder: Path, tell: Callable[[str], None] = lambda name: None) -> int:
    """Bring every policy of a zoo into `folder`, then its index; return the number of those that came new.

    An interrupted mirror continues when it is started again. Until the last policy is there, `folder`
    keeps its old index, all of whose policies stay.

    Args:
        tell: is given the name of every policy that comes.

    Raises:
        PrunePolicyError: when the source fails, a file isn't the listed one, or the folder can't be written.
    """
    came = 0
    try:
        with claiming(folder / INDEX):
            for name, entry in zoo.index.policies.items():
                if difference(folder / name, entry) is not None:
                    tell(name)
                    _copy(zoo, name, folder / name)
                    came += 1
                else:
                    with claimed(folder / name):
                        discard(folder / name)  # What a run has left that was killed once it was there.
            write_bytes(folder / INDEX, zoo.signed)
    except OSError as error:
        raise as_sentence(error, folder) from error
    finally:
        release(folder / INDEX)
    return came


def _copy(zoo: Zoo, name: str, target: Path) -> None:
    check_place(target)
    check_target(target, overwrite=True)
    try:
        prepared = working_folder(target)
        bring(zoo, name, prepared)
        publish(prepared, target)
    finally:
        release(target)
