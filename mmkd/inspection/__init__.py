"""Which points of two models can be compared, and which entries has a method for them?"""
from .entries import entries_of, settings_of
from .pair import Finding, Pair, inspect_pair
from .tables import methods_table, table_of

__all__ = ['Finding', 'Pair', 'entries_of', 'inspect_pair', 'methods_table', 'settings_of',
           'table_of']
