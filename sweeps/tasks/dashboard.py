"""Optuna's own dashboard, on the stored studies."""

from optuna_dashboard import run_server

from pipelines.errors import UserError
from sweeps.stores.storage import url
from sweeps.stores.store import Store


def serve(study: str, host: str, port: int) -> None:
    """Serve the dashboard until Ctrl-C, and print where it shows `study`. Raises UserError for a port that is taken."""
    number = Store(study).study()._study_id
    print(f"Optuna dashboard on http://{host}:{port} (Ctrl-C ends it)", flush=True)
    print(f"{study}: http://{host}:{port}/dashboard/studies/{number}", flush=True)
    try:
        run_server(url(), host=host, port=port)
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port} ({error.strerror}): choose another with --port") from error
