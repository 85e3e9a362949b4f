"""Removes two causes of slow short runs that no test is about. Processes that tests start import
this module, too: its folder is on their PYTHONPATH.
"""
import sys
import time

import yapf.yapflib.yapf_api

# A Runner prints its config up to six times. Formatting it takes 90 % of the time of a short run.
for module in (yapf.yapflib.yapf_api, sys.modules.get('mmengine.config.config')):
    if module is not None:
        module.FormatCode = lambda text, **style: (text, True)

sleep = time.sleep


def sleep_elsewhere(seconds: float) -> None:
    """Skip the two seconds that MMEngine waits before each further pass over the data."""
    if sys._getframe(1).f_globals['__name__'] != 'mmengine.runner.loops':
        sleep(seconds)


time.sleep = sleep_elsewhere
