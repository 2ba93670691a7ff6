"""A study on a cluster of real parts on this machine, one of whose nodes dies half-way: python -m deploy.demo"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.loopback import Cluster, Unavailable

TRIALS, EPOCHS, WORKERS = 6, 8, 3
STUDY = f"""
name: cluster_demo
model: lean_cnn
dataset: mnist-5k
training: {{epochs: {EPOCHS}, batch_size: 100}}
search:
  filters1: {{int: [4, 16]}}
  dropout: {{float: [0.0, 0.5]}}
  learning_rate: {{float: [0.001, 0.01], log: true}}
pruner: none
start: []
budget: {{trials: {TRIALS}}}
"""


def main() -> int:
    """Run the demonstration; return 0 when nothing was lost."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all parts end with us
    with tempfile.TemporaryDirectory(prefix="cluster-demo-") as name:
        folder = Path(name)
        say("starting PostgreSQL, an MLflow server and two Ray nodes, all on 127.0.0.1")
        try:
            with Cluster(folder) as cluster:
                os.environ.update(cluster.environment | {"MLRUNS_DIR": str(folder / "mlruns")})
                return demonstrate(cluster, folder)
        except Unavailable as error:
            print(f"error: {error}", file=sys.stderr)
            return 2


def demonstrate(cluster: Cluster, folder: Path) -> int:
    """Run the study, kill a node meanwhile, and look whether anything is missing."""
    (folder / "study.yaml").write_text(STUDY)
    say(f"the MLflow server is {cluster.server.url}; the study has {TRIALS} trials of {EPOCHS} epochs")
    say(f"sweep run study.yaml --executor ray --workers {WORKERS}")
    sweep = [sys.executable, "-m", "sweeps.cli"]
    command = subprocess.Popen(
        [*sweep, "run", str(folder / "study.yaml"), "--executor", "ray", "--workers", str(WORKERS)]
    )
    from sweeps.stores import names
    from sweeps.stores.store import Store
    from sweeps.tasks import doctor

    def there() -> list[Any]:
        """Return the trials that the second node holds, once one of them has an epoch behind it."""
        try:
            held = [trial for trial, lease in Store("cluster_demo").running() if lease and not lease.worker.here]
        except Exception:  # not begun yet
            return []
        return [trial for trial in held if trial.intermediate_values]

    victims = wait_for(there, command)
    if not victims:
        return command.wait() or 1
    say(f"killing the second node, which is at work on {', '.join(f'trial {trial.number}' for trial in victims)}")
    cluster.nodes[1].kill()
    code = command.wait()
    store = Store("cluster_demo")
    trials = store.trials()
    whole = sum(len(trial.intermediate_values) == EPOCHS for trial in trials)
    for trial in trials:
        for fault in trial.user_attrs.get(names.FAULTS, []):
            say(f"trial {trial.number}: {fault}; it resumed from its last checkpoint, on the first node")
    spent = store.epochs_spent()
    say(f"{whole} of {TRIALS} trials have their {EPOCHS} epochs, each in one MLflow run; {spent} epochs were trained")
    say(f"lost: {spent - TRIALS * EPOCHS} epochs, those under way on the node that died")
    subprocess.run([*sweep, "best"], check=False)
    wrong = [problem.what for problem in doctor.problems(store)]
    say(f"sweep doctor: {'; '.join(wrong) or 'nothing is wrong'}")
    return code or int(bool(wrong) or whole != TRIALS or len(trials) != TRIALS)


def wait_for(condition: Callable[[], list[Any]], command: subprocess.Popen[bytes]) -> list[Any]:
    """Return what `condition` returns, once it is something; nothing if the command ends before."""
    while not (found := condition()) and command.poll() is None:
        time.sleep(0.2)
    return found


def say(line: str) -> None:
    """Print a line of the demonstration's own."""
    print(f"\n=== {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
