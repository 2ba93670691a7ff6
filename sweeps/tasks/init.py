"""A model and a study of one's own to begin with, which run in a minute."""

from pathlib import Path

from pipelines.errors import UserError

MODEL = '''"""A network of my own: build's keyword arguments are what a study can search."""


def build(*, units: int = 32, dropout: float = 0.2, activation: str = "relu"):
    """Return an uncompiled network: images (n, 28, 28, 1) -> probabilities of ten classes (n, 10)."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(units, activation=activation),
            layers.Dropout(dropout),
            layers.Dense(10, activation="softmax"),
        ]
    )
'''
STUDY = """# sweep check my_study.yaml says what this would cost, sweep run my_study.yaml runs it.
name: my_study
description: A first study of my own network.
model: my_model.py                # the file beside this one
dataset: mnist-5k                 # 5,000 images that need no network; mnist is the whole
training: {epochs: 3}
search:
  units: {int: [8, 128], log: true}
  dropout: {float: [0.0, 0.5]}
  activation: {choice: [relu, gelu]}
  learning_rate: {float: [1e-4, 1e-2], log: true}
budget: {trials: 6}
"""
FILES = {"my_model.py": MODEL, "my_study.yaml": STUDY}


def write(folder: Path) -> list[Path]:
    """Write the files into a folder, made if missing; return them. Raises UserError where one of them is there already."""
    files = [folder / name for name in FILES]
    for file in files:
        if file.exists():
            raise UserError(f"{file} is there already: name another folder, or move it away")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in zip(files, FILES.values(), strict=True):
            file.write_text(text)
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}): name a folder that can be written") from error
    return files
