"""Import this module to make the modules of ``tools/`` importable."""
import os
import sys

TOOLS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'tools')

sys.path.insert(0, TOOLS)
