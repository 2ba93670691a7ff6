"""How many seeds: until the verdict on a target is decided, and what more of them would tell. Nothing is trained here."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipelines.errors import UserError
from pipelines.metrics import Metric, short
from sweeps.results import choice, systems, verdict_lines
from sweeps.results.statistics import anytime, format_published, seeds_expected, seeds_to_tell, student
from sweeps.results.verdict import FEWEST_SEEDS, Published, Seeds
from sweeps.stores.record import StoredStudy
from sweeps.study.study import Study

MOST = 40  # seeds
PLANNED = (10, 20, 40)
DIFFERENCES = (0.01, 0.02, 0.05, 0.1)  # points of accuracy
POWER = 0.8


@dataclass(frozen=True)
class Until:
    """Add seeds until the verdict on `value`, in the unit shown, is decided, `most` at most; None: on the nearest target."""

    value: float | None
    most: int


def until(value: object, most: int | None) -> Until:
    """Return what was asked for; raises UserError for what is not a number, and for too few seeds."""
    try:
        wanted = None if value is None else float(str(value))
    except ValueError as error:
        raise UserError(
            f"--until-decided {value}: expected a number, such as 99.48, or none for the nearest target; name the study before it"
        ) from error
    if most is not None and most < FEWEST_SEEDS:
        raise UserError(f"--most {most}: expected at least {FEWEST_SEEDS}")
    return Until(wanted, MOST if most is None else most)


def check(owner: Study, until: Until, seeds: int) -> None:
    """Raise UserError for what could never be decided, before anything is trained."""
    metric = owner.objective
    if until.most < seeds:
        raise UserError(
            f"--most {until.most} is less than the {seeds} seeds that are planned: raise it, or lower --seeds"
        )
    if until.value is not None:
        low, high = (metric.scale * end for end in metric.range)
        in_percent = "; percent, not a share" if metric.scale == 100 and until.value <= 1 else ""
        if not low < until.value < high or in_percent:
            raise UserError(
                f"--until-decided {until.value:g}: expected {metric.label} between {low:g} and {high:g}{in_percent}"
            )
        return
    if not owner.targets:
        raise UserError(f"study {owner.name!r} has no target: give --until-decided a value, such as 99.48")
    if not owner.dataset.comparable:
        raise UserError(
            f"published numbers are of other test images than those of {owner.dataset.name}: give --until-decided a value"
        )


@dataclass(frozen=True)
class Aim:
    """A published value, called `name`, and the seeds of a study's chosen configuration that are to decide it.

    `published` is None where nothing is left to decide.
    """

    study: str
    trial: int
    metric: Metric
    name: str
    published: Published | None
    seeds: Seeds
    error: float

    @property
    def is_open(self) -> bool:
        """Whether the verdict is undecided."""
        return self.published is not None and _word(self.seeds, self.published, self.error) == "undecided"

    def now(self) -> "Aim":
        """Return the same with the seeds that have ended by now."""
        seeds, error = systems.evidence(self.study, self.trial, self.metric)
        return replace(self, seeds=seeds, error=error)

    def expected(self, most: int) -> str:
        """Return what is to be decided, and about how many seeds that takes."""
        if self.published is None:
            return f"trial {self.trial}: the verdict on every target is decided: no more seeds"
        if not self.is_open:
            return self.so_far()
        known = self.seeds.summary()
        if known is None or known.sd is None:
            return f"trial {self.trial}: seeds until the verdict on {self.name} is decided, {most} at most"
        difference = known.mean - self.published.to_beat
        needed = seeds_expected(difference, max(known.sd, self.seeds.least_sd), self.error) if difference else None
        within = needed is not None and needed <= most
        many = (
            f"about {needed} are expected"
            if within
            else f"more than {most} are expected, so that it may stay undecided"
        )
        return (
            f"trial {self.trial}: seeds until the verdict on {self.name} is decided, {most} at most; with a mean of "
            f"{self.metric.text(known.mean, known.sd)}, {many}"
        )

    def so_far(self) -> str:
        """Return the verdict by the seeds at hand."""
        assert self.published is not None
        row = systems.of_the_mean(self.seeds, self.published, self.error)
        return f"trial {self.trial}, {self.name}: {row['verdict']}, {verdict_lines.of_seeds(row, self.metric)}"


def aim(study: str, until: Until) -> Aim:
    """Return what is to be decided: the value asked for, by the objective, or the nearest target that is undecided.

    The nearest of those that are better than the mean; where there are none, of the others.
    """
    definition, trial = StoredStudy(study).read(), choice.chosen(study)
    if trial is None:
        raise UserError(f"no seed of study {study!r} is complete: none can be chosen")
    if until.value is not None:
        metric = definition.objective
        seeds, error = systems.evidence(study, trial, metric)
        published = Published(until.value, "printed", metric.direction)
        return Aim(study, trial, metric, _called(metric, published), published, seeds, error)
    by_name = {metric.name: metric for metric in definition.measured}
    found = []
    for target in definition.sorted_targets():
        metric = by_name[short(target.of)]
        seeds, error = systems.evidence(study, trial, metric)
        published = Published(target.published, target.kind, metric.direction, target.decimals)
        found.append(Aim(study, trial, metric, f"{_called(metric, published)}, {target.name}", published, seeds, error))

    def distance(each: Aim) -> tuple[bool, float]:
        assert each.published is not None
        known = each.seeds.summary()
        mean = known.mean if known else each.seeds.complete[0]
        return each.published.beaten_by(mean), abs(mean - each.published.to_beat)

    open_ones = [each for each in found if each.is_open]
    return min(open_ones, key=distance) if open_ones else replace(found[0], published=None)


def lines(study: str) -> Iterator[str]:
    """Yield what is known of the chosen configuration, and what more seeds of it would tell; raises UserError without seeds."""
    definition, trial = StoredStudy(study).read(), choice.chosen(study)
    metric = definition.objective
    seeds, error = systems.evidence(study, trial, metric) if trial is not None else (Seeds([], 0), 0.0)
    known = seeds.summary()
    if known is None or known.sd is None:
        raise UserError(
            f"study {study!r} has fewer than {FEWEST_SEEDS} fresh seeds of a configuration, and what more would tell depends on "
            f"their deviation: sweep confirm {study} trains some"
        )
    sd = max(known.sd, seeds.least_sd)
    now = seeds.interval()
    reach = f"the mean is known to ± {_short(metric, (now.high - now.low) / 2)}" if now else "too few for an interval"
    yield (
        f"trial {trial} of {study}, {known.n} seeds ({seeds.planned} planned): test {metric.label} "
        f"{metric.text(known.mean, known.sd)}; {reach}"
    )
    planned = ", ".join(f"{n} ± {_short(metric, student(n) * sd / n**0.5)}" for n in PLANNED)
    watched = ", ".join(f"{n} ± {_short(metric, anytime(n) * sd / n**0.5)}" for n in PLANNED if n > seeds.trained)
    if watched:
        yield f"seeds added and watched (--until-decided): {watched}"
    yield f"seeds planned before the first was trained, as another study may: {planned}"
    if metric.scale == 100:
        needed = ", ".join(
            f"{difference:g}{_unit(metric)} {_seeds(seeds_to_tell(difference, sd, POWER))}"
            for difference in DIFFERENCES
        )
        yield f"planned seeds that tell a difference with probability {100 * POWER:.0f} %: {needed}"
    by_name = {each.name: each for each in definition.measured}
    for target in definition.sorted_targets() if definition.dataset.comparable else []:
        of = by_name[short(target.of)]
        own, error = systems.evidence(study, trial, of) if trial is not None else (seeds, error)
        published = Published(target.published, target.kind, of.direction, target.decimals)
        yield f"  {_called(of, published)}  {target.name}: {_needed(own, published, error, of)}"


def _needed(seeds: Seeds, published: Published, error: float, metric: Metric) -> str:
    """Return how far a configuration is from a published value, and how many seeds decide it, if its mean is the measured one."""
    known = seeds.summary()
    if known is None or known.sd is None:
        return "too few seeds"
    difference, sd = known.mean - published.to_beat, max(known.sd, seeds.least_sd)
    word, away = _word(seeds, published, error), f"{abs(difference):.2g}{_unit(metric)} away"
    if word != "undecided" or not difference:
        return f"{word}, {away}"
    planned, watched = seeds_to_tell(difference, sd, POWER, error), seeds_expected(difference, sd, error)
    return (
        f"undecided, {away}: {_seeds(planned)} planned beforehand would decide it with probability {100 * POWER:.0f} %, "
        f"--until-decided is likely to take {_seeds(watched)}"
    )


def _word(seeds: Seeds, published: Published, error: float) -> str:
    return str(systems.of_the_mean(seeds, published, error)["verdict"])


def _called(metric: Metric, published: Published) -> str:
    return format_published(published.value, published.kind, metric, published.decimals) + metric.called


def _seeds(n: int | None) -> str:
    return "more than anyone trains" if n is None else f"{n} seeds"


def _unit(metric: Metric) -> str:
    return " points" if metric.scale == 100 else ""


def _short(metric: Metric, value: float) -> str:
    return f"{value:.2f}" if metric.scale == 100 else f"{value:.2g}"
