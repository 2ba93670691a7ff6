"""The names under which Optuna's storage keeps what is ours: attributes of studies and of trials. Nobody else writes one down."""

# Of a study
UID = "uid"  # our own id, which a rename leaves as it is
STUDY = "study"  # the study as its file says it, for whoever resumes it
DEFINITION = "definition"  # all that may not change once there are trials
SOURCE = "model_source"  # of a user's model, with all that it imports; a list of those of several
FUNCTIONS = "function_sources"  # of the user's functions, such as losses and metrics, each with all that it imports
LOOKED_AT = "model_looked_at"  # the digest of the source that was examined
CHOSEN_SAMPLER = "chosen_sampler"  # what `auto` chose at the beginning
PHASE = "phase"  # of the project's work that its runs belong to
OWNER = "owner"  # the study under whose parent run its runs belong, by name
PLANNED = "seeds_planned:"  # and more, see `planned`
FORMER_SEEDS_PLANNED = "seeds_planned"  # of all its configurations, as versions before wrote it
SESSION = "session:"  # and an id: from when until when a parent ran it
WRITER = "summary_writer"  # which of its parents writes to its parent run, and when it last did
MODELS_REMOVED = "models_removed"  # numbers of trials
IMAGES_DRAWN = "images_drawn"
STOP = "stop:"  # and an id: somebody asked its parents to end, when and how
IMPORTANCES = "importances"  # of its hyperparameters, and of how many complete trials
SYSTEMS = "systems"  # what its confirmed configurations came to, and from what that was computed
ENDED_BY = "ended_by"  # what its rules (`stop`) have decided, in words
DELETING = "deleting"  # it is half gone: nobody may run it

# Of a trial
RUN_ID = "run_id"  # its run in MLflow
LEASE = "lease"
FAULTS = "faults"  # of its workers, each with its reason: one retry is used for each
ENDED = "ended"  # why, in a word
FAILURE = "failure"  # exception type and the user's line: they tell one cause from another
STOPPING = "stopping"  # somebody asked that it end for good after its epoch
ENQUEUED = "enqueued"  # the parameters that somebody gave it
CURVE = "epoch:"  # and the epochs trained: the first objective then, where Optuna takes no reports
FORMER_CURVE = "val_accuracy:"  # the same, as versions before wrote it

# How a trial ends
DELETED = "deleted"  # nothing is left of it but its number
INFEASIBLE = "infeasible"  # it does not meet the constraints, and was not trained


def planned(phase: str, trial: int) -> str:
    """Return where a study notes how many seeds of a trial's configuration were planned, before the first was trained."""
    return f"{PLANNED}{phase}-{trial}"
