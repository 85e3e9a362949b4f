"""Where are the configs of a package whose fork is installed under another name?"""
from mmengine.config.utils import MODULE2PACKAGE

from ..core.requirements import REQUIREMENTS, installed_versions


def know_forks() -> None:
    """Let `mmseg::` in ``_base_`` find the configs of a fork.

    MMEngine looks for the package `mmsegmentation`, but the fork has another name. A package that
    is not there is looked for by the name of its module, which the fork keeps.

    Example:
        >>> know_forks()  # nothing, where the packages are the official ones
    """
    installed = installed_versions()
    forks = {need.name for need in REQUIREMENTS
             if need.fork in installed and need.name not in installed}
    for module, package in MODULE2PACKAGE.items():
        if package in forks:
            MODULE2PACKAGE[module] = module
