"""For the tests' subprocesses: configs are printed as they are, which saves most of a short run's
time; see conftest.py."""
import yapf.yapflib.yapf_api

yapf.yapflib.yapf_api.FormatCode = lambda text, **style: (text, True)
