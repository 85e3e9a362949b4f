"""Imports packages of other libraries that some tests need, and that may be absent.

``make test-neighbours`` installs them and sets MMKD_NEIGHBOURS. There a failed import is an error.
"""
import importlib
import os
import warnings

import pytest


def needs(*names: str) -> None:
    """Import modules; skip the test, or the module of tests, if one of them cannot be imported."""
    for name in names:
        error = _error_of(name)
        if error is not None:
            pytest.skip(f'{name} cannot be imported: {type(error).__name__}',
                        allow_module_level=True)


def can_be_imported(name: str) -> bool:
    return _error_of(name) is None


def _error_of(name):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            importlib.import_module(name)
    except Exception as error:  # not installed, or built for another torch
        if os.environ.get('MMKD_NEIGHBOURS'):
            raise
        return error
    return None
