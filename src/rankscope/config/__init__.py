"""The study file: YAML or a dict in, one validated ``StudyConfig`` out. The only package that imports pydantic.

Knows what may be asked for and where in the file it was asked; knows nothing about how a study is run.
"""

from __future__ import annotations

from rankscope.config.load import StudyFileError, from_dict, load
from rankscope.config.starter import STARTER
from rankscope.config.study import StudyConfig

__all__ = ["STARTER", "StudyConfig", "StudyFileError", "from_dict", "load"]
