"""Is this file a checkpoint, and was it written to its end?"""
from .archive import damaged_part, foreign_part, is_of_torch, is_zip
from .reading import read_file
from .safe_types import first_line


def wrong_with(path: str) -> str:
    """Why a file is not a complete checkpoint, for a message; '' if it is one."""
    if path.endswith('.safetensors'):
        try:
            read_file(path, False, '')
        except ValueError as error:
            return f'is not a readable checkpoint ({first_line(error)})'
        return ''
    with open(path, 'rb') as file:
        start = file.read(64).lstrip().lower()
    if start.startswith((b'<!doctype', b'<html', b'<?xml')):
        return 'is a web page, not a checkpoint'
    return '' if is_whole(path) else 'is not a checkpoint, or is truncated'


def is_whole(path: str) -> bool:
    """Whether a file of ``torch.save`` is complete and unchanged."""
    try:
        with open(path, 'rb') as file:
            if is_zip(file):
                return not foreign_part(file) and damaged_part(file) is None
            if not is_of_torch(file):
                return False
        read_file(path, False, '')  # as torch wrote them before 1.6
        return True
    except (OSError, ValueError) as error:
        return 'contains more than weights' in str(error)  # complete; loading it raises the error
