"""A function of the user's that returns arrays. It is called when a study begins or is resumed; what it returned is kept."""

import os
import traceback
from pathlib import Path

from models.errors import NoModel
from models.sources import UserModules, find
from pipelines.datasets import arrays
from pipelines.datasets.dataset import Dataset
from pipelines.datasets.spec import FunctionDataset
from pipelines.errors import UserError, first_line, of_the_machine


def load(spec: FunctionDataset) -> Dataset:
    """Return the data set that the function returns; raises UserError, with the line where it is the function's fault."""
    path, name = spec.path(), spec.function_name
    where = f"{path.name}:{name}"
    try:
        modules = UserModules(find(f"{path}:{name}", [Path.cwd()]))
        function = getattr(modules.entry(), name, None)
    except NoModel as error:
        raise UserError(f"dataset: {error}") from error
    if not callable(function):
        raise UserError(f"dataset: {path} has no function {name}: expected one that returns a dict of arrays")
    folder = Path.cwd()
    try:
        os.chdir(path.parent)  # where the files that it reads lie
        found = function()
    except Exception as error:
        if of_the_machine(error):
            raise
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in modules.files()]
        place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        raise UserError(f"dataset: {where} raises {type(error).__name__}: {first_line(error)}{place}") from error
    finally:
        os.chdir(folder)
    return arrays.keep(found, spec, where)
