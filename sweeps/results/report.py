"""The report of a study: Markdown, and one HTML file on its parent run. Every number in it comes from a run that it names."""

import base64
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from pipelines import paths
from pipelines.errors import UserError
from pipelines.metrics import NOTHING, Metric, short
from pipelines.tracking import store as tracking
from pipelines.tracking.records import RunFacts
from pipelines.tracking.run import TrackedRun
from sweeps.results import frames, plots, systems, verdict_lines
from sweeps.results.leaderboard import IMPORTANCE_TRIALS, SHOWN, counts, gaps, ranking, winners_luck
from sweeps.results.rows import PARTS, Row, of_study, settings
from sweeps.results.statistics import format_published
from sweeps.results.systems import System
from sweeps.results.tables import html, markdown, number
from sweeps.results.verdict import luck_of_the_best
from sweeps.stores.record import StoredStudy
from sweeps.stores.seen import SeenStudy

CURVES = {"study_curves.png": "Every trial on the validation images, epoch by epoch"}  # figures on the parent run
IMAGES = {"images_by_class.png": "The images"}
OF_THE_CHOSEN = {  # figures of the run that validation chose
    "learning_curves.png": "Training",
    "confusion.png": "Classes taken for others",
    "wrong_images.png": "Wrong test images",
    "accuracy_by_class.png": "Accuracy by class and by confidence",
    "font_digits.png": "Digits from fonts",
}
HOW_TO_READ = (
    "Would this system, trained again, be better than the published value on these test images? **Reached**: all of the interval "
    "of its mean over trainings is; **not reached**: all of it is worse; **undecided**: neither. At the planned number of seeds "
    "the interval is Student's, at any other the anytime interval. *Next training*: how one more would do. *As a system*: "
    "whether the published run could have been one of this system. *On other images*: the verdict's question for further images "
    "of the kind. The chosen configuration has the best mean by the objective on validation images. The words on all systems "
    "together have an error of 5 %: four fifths belong to the configurations, in equal parts, a tenth each to the final training "
    "and the ensemble."
)


def write(study: str, console: Console, output: Path | None = None) -> list[System]:
    """Write a study's report to `output` (a Markdown file; `mlruns/reports/NAME.md` if not given) and to its parent run.

    Returns the systems that have a verdict.

    Raises UserError for a study without a trial that has ended, or where it cannot be written.
    """
    page = Report(study)
    text = page.text()
    path = output or paths.report(study)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): name another file with --output") from error
    page.log(text)
    console.print(f"written: {path}, and as report.html to the parent run {page.parent.run_id}", soft_wrap=True)
    return page.systems


def log(study: str) -> list[System]:
    """Write a study's report to its parent run alone; return the systems that have a verdict.

    Raises UserError for a study without a trial that has ended.
    """
    page = Report(study)
    page.log(page.text())
    return page.systems


class Report:
    """What is known of a study, section by section."""

    def __init__(self, name: str):
        stored = StoredStudy(name)
        self.store, self.study = stored.store, stored.read()
        self.metric = self.study.objective
        self.by_name = {metric.name: metric for metric in self.study.measured}
        if not self.study.search:
            owner = stored.owner
            shown = f"sweep report {owner} shows its seeds" if owner else f"sweep best {name} shows its seeds"
            raise UserError(f"study {name!r} has no search to report on: {shown}")
        self.parent = stored.parent_run()
        self.frame = frames.runs(name)
        if not (self.frame.epochs > 0).any():
            raise UserError(f"no trial of study {name!r} has ended: resume it (sweep run {name} --stored)")
        self.complete, self.rows = self.frame[self.frame.state == "complete"], of_study(name)
        self.seeds, self.again = systems.confirmations(name), systems.seeds(SeenStudy(name))
        self.trials = stored.trial_runs()
        of_seeds = [tracking.get_run(run_id) for run_id in self.seeds.run_id]
        self.runs = {run.run_id: run for run in [*self.trials, *of_seeds]}
        self.systems: list[System] = systems.systems(name)
        self.judged = systems.verdict_rows(self.study, name, self.systems)

    def text(self) -> str:
        """Return the whole page as Markdown, without figures: what a reader wants to know first, where it comes from last."""
        return "\n\n".join([self._head(), *self._findings(), *self._details(), self._provenance()]) + "\n"

    def log(self, text: str) -> None:
        """Write `text`, the page, to the parent run: as Markdown, and as HTML with figures and plots inside."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "report.md").write_text(text, encoding="utf-8")
            interactive = plots.sections(self.store.study(), self.study, self.frame)
            page = html(
                "\n\n".join([self._head(), *self._findings(figures=True), *self._details(), *self._figures()]),
                f"{self.study.name}: report",
                f"<h2>Plots to click on</h2>\n{interactive}" if interactive else "",
                self._provenance(),
            )
            (folder / "report.html").write_text(page, encoding="utf-8")
            TrackedRun(self.parent.run_id).log_artifacts(folder)

    def _head(self) -> str:
        """Return the title, and in a paragraph what was searched, and what came of it."""
        study = self.study
        searched = ", ".join(f"`{name}`" for name in study.search)
        of_models = " or ".join(f"`{name}`" for name in study.models)
        spent = (
            f"{self.frame.epochs.sum():,} epochs, {number(self.frame.seconds.sum() / 3600, '.1f')} hours of training"
        )
        words = [
            f"The study searched {searched} of model {of_models} on {study.dataset.name}, for the best {self.metric.label} "
            f"on validation images: {len(self.frame)} trials ({counts(self.rows)}), {spent}."
        ]
        if self.complete.empty:
            words.append("No trial is complete.")
        elif self.systems:
            words.append(self._confirmed())
        else:
            chosen = self.complete.iloc[0]
            values = [self._shown(chosen[f"{part}_{self.metric.name}"]) for part in PARTS]
            again = "one training" if study.trainings == 1 else f"{study.trainings} models"
            words.append(
                f"The best by validation is trial {chosen.trial}: {values[0]} on validation images, {values[1]} on test images "
                f"({again}, unconfirmed: `sweep confirm {study.name}` trains the best again from fresh seeds)."
            )
        said = f"{study.description.strip()}\n\n" if study.description else ""
        return f"# {study.name}\n\n{said}{' '.join(words)}"

    def _confirmed(self) -> str:
        """Return what the fresh seeds of the chosen configuration came to, in words."""
        chosen = self.systems[0]
        of = self.metric.text(chosen.test_mean, chosen.test_sd)
        seeds = f"{len(chosen.run_ids)} fresh seeds"
        said = f"Trained again from {seeds}, {chosen.name}, which validation chooses, has {of} on test images"
        verdicts = []
        for row in self.judged:
            if row["chosen"]:
                metric = self.by_name[row["metric"]]
                value = format_published(row["published"], row["kind"], metric, row["decimals"])
                verdicts.append(f"{value}{metric.called} ({row['target']}) is {row['verdict']}")
        return f"{said}: {', '.join(verdicts)}." if verdicts else f"{said}."

    def _findings(self, figures: bool = False) -> Iterator[str]:
        """Yield what a reader wants to know: the verdicts or the best trial, the curves, the front, the leaderboard."""
        if self.systems:
            yield f"## Verdicts\n\n{self._verdicts()}"
        elif len(self.complete):
            yield f"## Best trial\n\n{self._best()}"
        curves = [*self._images(self.parent.run_id, CURVES)] if figures else []
        if curves:
            yield "\n\n".join(["## Curves", *curves])
        ahead = [row for row in self.rows if row.get("on_front")]
        if ahead:
            columns = ", ".join(objective.column for objective in self.study.objectives)
            said = f"No other trial is better in one of {columns} and as good in the rest."
            yield f"## Front\n\n{said}\n\n{markdown(ranking(ahead, self.study, len(ahead)))}"
        complete = [row for row in self.rows if row["state"] == "complete"]
        if complete:
            yield self._leaderboard(complete)

    def _details(self) -> Iterator[str]:
        """Yield the sections that have something to say."""
        sections = {
            "Importance": self._importance(),
            "Seeds": self._seeds(),
            "Cost to target": self._cost(),
            "What ended early": self._ended_early(),
            "The test images": self._reads(),
        }
        return (f"## {title}\n\n{body}" for title, body in sections.items() if body)

    def _figures(self) -> Iterator[str]:
        """Yield the figures of the trial that validation chose, and of the data, each as Markdown with the image inside."""
        runs = [("The data", self.parent.run_id, IMAGES)]
        if len(self.complete):
            chosen = self.complete.iloc[0]
            several = f" (results: model 1 of {self.study.trainings})" if self.study.trainings > 1 else ""
            runs.insert(0, (f"Trial {chosen.trial}, chosen by validation{several}", chosen.run_id, OF_THE_CHOSEN))
        for title, run_id, wanted in runs:
            images = [*self._images(run_id, wanted)]
            yield from [f"## {title}", *images] if images else ()

    def _images(self, run_id: str, wanted: Mapping[str, str]) -> Iterator[str]:
        """Yield the figures of a run that there are, by file and in words, as Markdown with the image inside."""
        there = tracking.artifacts(run_id)
        with tempfile.TemporaryDirectory() as folder:
            for file, what in wanted.items():
                found = next((path for path in (file, f"model_1/{file}") if path in there), None)
                if found:
                    content = tracking.artifact_folder(run_id, found, Path(folder)).read_bytes()
                    yield f"![{what}](data:image/png;base64,{base64.b64encode(content).decode()})"

    def _verdicts(self) -> str:
        lines = [["system", "models", f"validation{self.metric.called}", f"test{self.metric.called}"]]
        for system in self.systems:
            name = f"**{system.name}**, chosen" if system.chosen else system.name
            lines.append([name, *systems.cells(system)])
        if not self.judged:
            said = [systems.without_verdict(self.study.name)]
        else:
            said = [verdict_lines.as_markdown(verdict_lines.judged(self.judged, self.by_name)), HOW_TO_READ]
        return "\n\n".join(filter(None, [markdown(lines), *said, "\n".join(self._comparisons())]))

    def _best(self) -> str:
        """Return the hyperparameters of the trial that validation chose, and its gaps to published values."""
        best = next(row for row in self.rows if row["state"] == "complete")
        lines = [["hyperparameter", "value"]]
        params = self.study.active(settings(best, [*self.study.search]))
        lines += [[f"`{name}`", str(value)] for name, value in params.items()]
        said = f"Trial {best['trial']}, chosen by validation, one training, unconfirmed:\n\n{markdown(lines)}"
        if not self.study.dataset.comparable or not self.study.targets:
            return said
        against = [["published", "gap", "test images"]]
        against += [
            [f"{gap.published}, {gap.target}", gap.gap, gap.images or NOTHING] for gap in gaps(self.study, best)
        ]
        return f"{said}\n\n{markdown(against)}"

    def _comparisons(self) -> Iterator[str]:
        """Yield how far the chosen configuration is from each other one that has seeds of its own."""
        for name, comparison in systems.comparisons(self.study.name, self.systems):
            yield f"- {verdict_lines.of_a_comparison(self.systems[0].name, name, comparison, self.metric)}."

    def _seeds(self) -> str:
        if self.seeds.empty:
            return ""
        called = self.metric.called
        measured = [f"validation{called}", f"test{called}"]
        lines = [["trial", "phase", "seed", "state", *measured, "kept epoch", "epochs", "run"]]
        for _, row in self.seeds.iterrows():
            values = [self._shown(row[f"{part}_{self.metric.name}"]) for part in PARTS]
            epochs = [number(row.kept_epoch), number(row.epochs)]
            seed = self.runs[row.run_id].params.get("seed", NOTHING)
            lines.append([str(row.trial), row.phase, seed, row.state, *values, *epochs, f"`{row.run_id}`"])
        return markdown(lines)

    def _reads(self) -> str:
        column, metric = f"test_{self.metric.name}", self.metric
        measured = [run for run in self.runs.values() if column in run.metrics]
        reads = sum(int(run.metrics.get("test_reads", 1)) for run in measured)
        looked_at = int(self.frame[column].notna().sum())
        images = self.study.dataset.test_examples
        spread = self.seeds[(self.seeds.phase == "confirm") & (self.seeds.state == "complete")].groupby("trial")[column]
        variances = spread.var(ddof=1)[spread.count() > 1]
        deviation, source = None, ""
        if len(variances):
            deviation = float(np.sqrt(variances.mean() / self.study.trainings))
            source = f"the deviation of a trial's {metric.label}, from the fresh seeds"
        elif metric.of_images:
            mean = float(self.frame[column].mean())
            deviation, source = (mean * (1 - mean) / images) ** 0.5, f"the deviation of a mean over {images:,} images"
        luck = ""
        if deviation is not None:
            points = [metric.scale * value for value in (luck_of_the_best(looked_at, deviation), deviation)]
            by, of = (f"{each:.2f} points" if metric.scale == 100 else f"{each:.2g}" for each in points)
            where = "above" if metric.direction == "maximize" else "below"
            luck = (
                f"Were all equally good, the best of {looked_at} would by luck alone stand {by} {where} their mean ({of} is "
                f"{source}). "
            )
        ranked = self.frame[self.frame[column].notna()].sort_values(column, ascending=metric.direction == "minimize")
        best = ranked.iloc[0]
        return (
            f"They were read at least {reads} times, by {len(measured)} runs, and chose nothing. {looked_at} configurations of "
            f"the search have a test {metric.label}. {luck}The best by test {metric.label} is trial {best.trial} with "
            f"{self._shown(best[column])}: chosen so, a number says nothing."
        )

    def _shown(self, value: float) -> str:
        """Return a value of the objective as it is written."""
        return self.metric.text(self.metric.scale * value)

    def _leaderboard(self, complete: Sequence[Row]) -> str:
        """Return the best of the complete trials, with how far the best of them was lucky."""
        said = f"By validation {self.metric.label}."
        if luck := winners_luck(complete, self.again, self.study, len(self.rows)):
            said = f"{said} {luck[0].upper()}{luck[1:]}."
        return f"## Leaderboard\n\n{said}\n\n{markdown(ranking(complete, self.study))}"

    def _cost(self) -> str:
        ended = [run for run in self.trials if "epochs_trained" in run.metrics and run.end_time]
        ended.sort(key=lambda run: run.end_time or 0)
        lines = [["published", "trials", "epochs", "seconds of training", "by trial"]]
        for target in self.study.sorted_targets():
            metric = self.by_name[short(target.of)]
            value = format_published(target.published, target.kind, metric, target.decimals)
            published = f"{value}{metric.called}, {target.name}"
            crossed = [_crosses(run, metric, target.published) for run in ended]
            at = crossed.index(True) + 1 if any(crossed) else None
            if at is None:
                lines.append([published, "not crossed on validation", *[NOTHING] * 3])
                continue
            until = [run.metrics for run in ended[:at]]
            epochs, seconds = (sum(each[name] for each in until) for name in ("epochs_trained", "seconds"))
            lines.append([published, str(at), f"{epochs:,.0f}", f"{seconds:,.0f}", ended[at - 1].tags["trial"]])
        what = (
            "Of the trials that had ended when the first of them crossed the published value *on validation images*: one "
            "training, no verdict."
        )
        return f"{what}\n\n{markdown(lines)}" if len(lines) > 1 else ""

    def _ended_early(self) -> str:
        early = self.frame[~self.frame.state.isin(["complete", "running", "waiting"])]
        if early.empty:
            return ""
        lines = [["state", "trials", "epochs in all", "epochs trained (trials)"]]
        for state, rows in early.groupby("state", observed=True):
            epochs = rows.epochs.fillna(0).astype(int)
            at = ", ".join(f"{epoch} ({count})" for epoch, count in sorted(epochs.value_counts().items()))
            lines.append([str(state), str(len(rows)), str(int(epochs.sum())), at])
        ended = self.frame[self.frame.epochs.notna()]
        whole, spent = int((ended.max_epochs * self.study.trainings).sum()), int(ended.epochs.sum())
        return f"{markdown(lines)}\n\nThe trials that have ended trained {spent} of the {whole} epochs that all of them had."

    def _importance(self) -> str:
        if len(self.complete) < IMPORTANCE_TRIALS:
            return ""
        weights = self.store.importances()
        lines = [["hyperparameter", "importance"]]
        lines += [[f"`{name}`", f"{weight:.2f}"] for name, weight in weights.items()]
        if not weights:  # every trial has the same value
            return ""
        return f"For validation {self.metric.label}, fANOVA over {len(self.complete)} complete trials.\n\n{markdown(lines)}"

    def _provenance(self) -> str:
        lines = [["trial", "phase", "run", "seed", "data set digest", "model source", "commit", "device", "libraries"]]
        shown = [*self.complete.head(SHOWN).run_id, *self.seeds.run_id]
        for run in (self.runs[run_id] for run_id in shown):
            tags, seed = run.tags, run.params.get("seed", NOTHING)
            trial = tags["study"].rpartition("-")[2] if tags["phase"] in ("confirm", "final") else tags["trial"]
            commit = tags.get("git_commit", NOTHING)[:12] + (" with changes" if tags.get("git_dirty") == "true" else "")
            libraries = "{} {}, keras {}".format(
                *(tags.get(n, "") for n in ("backend", "backend_version", "keras_version"))
            )
            known = [tags.get(name, NOTHING) for name in ("dataset_digest", "model_digest")]
            what = [*known, commit, tags.get("device_name", tags.get("device", NOTHING)), libraries]
            lines.append([trial, tags["phase"], f"`{run.run_id}`", seed, *what])
        said = "The runs behind the leaderboard and the verdicts; `sweep rerun RUN` trains any of them again."
        digests = (
            f"Study digest {self.study.digest()}, data set digest {self.parent.tags.get('dataset_digest', NOTHING)}."
        )
        return f"## Provenance\n\n{said} {digests}\n\n{markdown(lines)}"


def _crosses(run: RunFacts, metric: Metric, published: float) -> bool:
    """Whether a run is at a published value, or beyond it, on validation images."""
    value = run.metrics.get(f"val_{metric.name}")
    return value is not None and metric.cost(metric.scale * value) <= metric.cost(published)
