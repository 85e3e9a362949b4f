"""torchrun without its own traceback after an error, which the failed process has printed.

    python tools/launch.py --nproc_per_node=2 tools/train.py CONFIG --launcher pytorch
"""
import sys

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def launch() -> int:
    """Start the processes, and return 1 if one of them failed, else 0."""
    try:
        main()
    except (KeyboardInterrupt, SignalException):  # the first process has printed how to resume
        return 130
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        if first.exitcode < 0:  # ended by a signal, so it has printed nothing
            print(f'process {first.global_rank} was ended by {first.signal_name()}',
                  file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(launch())
