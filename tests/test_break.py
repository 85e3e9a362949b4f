"""Ten rounds of the tool that hurts runs: every promise holds, and one that is broken is found."""
import os

from support.tools import TOOLS, run_tool


def test_ten_rounds_break_no_promise(tmp_path):
    done = run_tool('break.py', '--rounds', 10, cwd=tmp_path, check=False)
    assert '10 rounds, 0 broken promises' in done.stdout, done.stdout
    assert done.stdout.count(': holds') == 10
    assert done.returncode == 0


def test_broken_promise_is_found(tmp_path):
    """Here weights of every kind pass for finite when the newest checkpoint is looked for."""
    (tmp_path / 'trusting.py').write_text(f'''
import runpy
import sys

import mmkd.latest

mmkd.latest.not_finite = lambda *given: []
sys.path.insert(0, {TOOLS!r})
runpy.run_path({os.path.join(TOOLS, "break.py")!r}, run_name='__main__')
''')
    done = run_tool(tmp_path / 'trusting.py', '--rounds', 1, '--only', 'diverged', cwd=tmp_path,
                    check=False)
    assert 'diverged' in done.stdout
    assert 'BROKEN: exit code 1' in done.stdout, done.stdout
    assert '1 rounds, 1 broken promises' in done.stdout
    assert done.returncode == 1
