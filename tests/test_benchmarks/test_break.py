"""Runs benchmarks/break.py for ten rounds. All checks pass, and an injected fault is detected."""
import os

import pytest
from support.tools import BENCHMARKS, run_tool


@pytest.mark.slow
def test_ten_rounds_pass_all_checks(tmp_path):
    done = run_tool(os.path.join(BENCHMARKS, 'break.py'), '--rounds', 10, cwd=tmp_path, check=False)
    assert '10 rounds, 0 broken promises' in done.stdout, done.stdout
    assert done.stdout.count(': holds') == 10
    assert done.returncode == 0


@pytest.mark.slow
def test_injected_fault_is_detected(tmp_path):
    """The fault: the search for the newest checkpoint treats all weights as finite."""
    (tmp_path / 'trusting.py').write_text(f'''
import runpy
import sys

import mmkd.files.latest

mmkd.files.latest.not_finite = lambda *given: []
sys.path.insert(0, {BENCHMARKS!r})
runpy.run_path({os.path.join(BENCHMARKS, "break.py")!r}, run_name='__main__')
''')
    done = run_tool(tmp_path / 'trusting.py', '--rounds', 1, '--only', 'diverged', cwd=tmp_path,
                    check=False)
    assert 'diverged' in done.stdout
    assert 'BROKEN: exit code 1' in done.stdout, done.stdout
    assert '1 rounds, 1 broken promises' in done.stdout
    assert done.returncode == 1
