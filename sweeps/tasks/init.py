"""A model, data and a study of one's own to begin with, which run in a minute."""

from pathlib import Path

from pipelines.errors import UserError

MODEL = '''"""A network of my own: build's keyword arguments are what a study can search."""


def build(*, units: int = 32, dropout: float = 0.2, activation: str = "relu", input_shape=None, classes=0):
    """Return an uncompiled network; `input_shape`, of one example, and `classes` are those of the data."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            layers.Dense(units, activation=activation),
            layers.Dropout(dropout),
            layers.Dense(classes, activation="softmax"),
        ]
    )
'''
DATA = '''"""Data of my own: here 1,797 digits of 8 x 8 pixels that come with scikit-learn; put yours in their place."""


def load():
    """Return examples and labels; x_train, y_train, x_test, y_test where they are divided already."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return {"x": digits.images[..., None] / 16, "y": digits.target}
'''
STUDY = """# sweep check my_study.yaml says what this would cost, sweep run my_study.yaml runs it.
name: my_study
description: A first study of my own network on my own data.
model: my_model.py                # the file beside this one
dataset: my_data.py:load          # or {folder: photos}, one folder a class; data.npz; mnist
training: {epochs: 10, batch_size: 32}
search:
  units: {int: [8, 128], log: true}
  dropout: {float: [0.0, 0.5]}
  activation: {choice: [relu, gelu]}
  learning_rate: {float: [1e-4, 1e-2], log: true}
budget: {trials: 6}
"""
FILES = {"my_model.py": MODEL, "my_data.py": DATA, "my_study.yaml": STUDY}


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
