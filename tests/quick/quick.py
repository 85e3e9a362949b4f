"""What makes a short run slow and no test is about, left out here and in the processes that tests
start, which find this folder on their PYTHONPATH.
"""
import sys
import time

import yapf.yapflib.yapf_api

# A Runner prints its config up to six times, and nine tenths of a short run's time make it pretty.
for module in (yapf.yapflib.yapf_api, sys.modules.get('mmengine.config.config')):
    if module is not None:
        module.FormatCode = lambda text, **style: (text, True)

sleep = time.sleep


def sleep_elsewhere(seconds: float) -> None:
    """MMEngine waits two seconds before each further pass over the data."""
    if sys._getframe(1).f_globals['__name__'] != 'mmengine.runner.loops':
        sleep(seconds)


time.sleep = sleep_elsewhere
