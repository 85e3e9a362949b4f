"""torchrun, without its own traceback when a process ends with an error: the process has spoken.

    python tools/launch.py --nproc_per_node=2 tools/train.py CONFIG --launcher pytorch
"""
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def launch() -> int:
    """Start the processes; the exit code of the first that failed."""
    try:
        main()
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        if first.exitcode < 0:  # it could not say anything itself
            print(f'process {first.global_rank} was ended by {first.signal_name()}',
                  file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(launch())
