"""What each verb does with a micro-batch: the job it makes, and what of the outcome goes to disk and journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from noisewright.executors.pictures import encoded
from noisewright.executors.protocol import MakeJob, Outcome, ScoreJob
from noisewright.images.metadata import RECIPE_VERSION
from noisewright.images.previews import preview_jpeg
from noisewright.run.batches import Verb
from noisewright.run.beside import Beside
from noisewright.run.digests import digest_of
from noisewright.run.jobs import Jobs
from noisewright.run.lineage import Lineages
from noisewright.run.particle import Particle
from noisewright.run.recorder import Recorder
from noisewright.run.scores import Scores
from noisewright.run.store import Store
from noisewright.samplers.protocol import Sampler

WORTH_A_THREAD = 2**14
"""Pixels of a micro-batch from which on its files are made beside its scoring: a thread costs as much as fewer."""


class Recipes:
    """What makes candidates again, for their files.

    Args:
        search, final: the samplers.
        name: the search's.
    """

    def __init__(self, search: Sampler, final: Sampler, name: str) -> None:
        self._search = search
        self._final = final
        self._name = name
        self._lineages = Lineages()
        self._described: dict[int, dict[str, Any]] = {}

    def of(self, particle: Particle, size: int, place: int, versions: dict[str, str]) -> dict[str, Any]:
        """The sampler, the lineage, and the micro-batch that a candidate was made in."""
        full = particle.draft is None and particle.steps == self._final.schedule.steps
        sampler = self._final if full else self._search
        if id(sampler) not in self._described:
            self._described[id(sampler)] = dict(sampler.description)
        return {
            "recipe_version": RECIPE_VERSION,
            "id": particle.id,
            "seed": particle.seed,
            "sampler": self._described[id(sampler)],
            "lineage": self._lineages.text(particle),
            "micro_batch": {"size": size, "place": place},
            "search": self._name,
            "versions": versions,
        }


class Commits:
    """The verbs that cost something.

    Args:
        store: for the images.
        recorder: for the lines and the states.
        jobs: makes the jobs.
        scores: makes the scoring jobs, and writes what came of them.
        recipes: for the images' files.
        overlaps: whether servers may score while the model works.
        leaves_files: whether the images' files are not made by who makes the images.
    """

    def __init__(
        self, store: Store, recorder: Recorder, jobs: Jobs, scores: Scores, recipes: Recipes,
        overlaps: Callable[[], bool], leaves_files: bool = False,
    ) -> None:  # fmt: skip
        self._store = store
        self._recorder = recorder
        self._jobs = jobs
        self._scores = scores
        self._recipes = recipes
        self._overlaps = overlaps
        self._leaves_files = leaves_files
        self._beside = Beside()

    def denoising(self) -> Verb:
        """Carry on to unfinished particles at one index."""
        return Verb(self._jobs.denoise, self.reached)

    def ascending(self) -> Verb:
        """A step of gradient ascent."""
        return Verb(self._jobs.ascend, self._ascended)

    def previewing(self) -> Verb:
        """Clean estimates, scored."""
        return Verb(self._jobs.estimate, lambda some, made: None, self._to_preview, self._previewed)

    def finishing(self, sampler: Sampler) -> Verb:
        """Finished images, saved and scored."""
        versions = self._store.run["versions"]

        def recipes(some: Sequence[Particle]) -> list[dict[str, Any]]:
            return [self._recipes.of(one, len(some), place, versions) for place, one in enumerate(some)]

        def job(some: Sequence[Particle]) -> MakeJob:
            return self._jobs.generate(some, sampler, [] if self._leaves_files else recipes(some))

        def commit(some: Sequence[Particle], made: Outcome) -> None:
            self._generated(some, made, recipes)

        def settle(some: Sequence[Particle], made: Outcome, scored: Sequence[Outcome]) -> None:
            self._beside.end()
            assert made.images is not None  # noqa: S101 - generating gives images
            self._scores.write(some, made.images, scored)

        return Verb(job, commit, self._to_score, settle, self._beside.end)

    def reached(self, some: Sequence[Particle], made: Outcome) -> None:
        """Keep the states that particles at one index have."""
        self._remember(made)
        assert made.states is not None  # noqa: S101 - denoising gives states
        digest = self._recorder.states.save(some, *made.states)
        ids = [p.id for p in some]
        record = {"verb": "denoise", "ids": ids, "to": some[0].index, "state": digest}
        self._recorder.append({**record, **made.metered}, some)

    def _ascended(self, some: Sequence[Particle], made: Outcome) -> None:
        self._remember(made)
        assert made.states is not None  # noqa: S101 - ascending gives noises and velocities
        digest = self._recorder.states.save(some, *made.states)
        record = {"verb": "ascend", "ids": [p.id for p in some], "objective": list(made.objective), "state": digest}
        self._recorder.append({**record, **made.metered}, some)

    def _to_preview(self, some: Sequence[Particle], made: Outcome) -> Sequence[ScoreJob]:
        assert made.images is not None  # noqa: S101 - estimating gives images
        whole = [reason is None for reason in made.broken]
        for one, image, shown in zip(some, made.images, whole, strict=True):
            if shown and image.ndim == 3:
                self._store.save_preview(one.id, preview_jpeg(image))
        return self._scores.jobs(made.images, whole, None, aside=self._overlaps(), final=False)

    def _previewed(self, some: Sequence[Particle], made: Outcome, scored: Sequence[Outcome]) -> None:
        states = self._recorder.states
        known = states.estimated(some[0])
        self._remember(made)
        assert made.clean is not None  # noqa: S101 - estimating gives estimates
        digest = {} if known else {"state": states.save_estimates(some, made.clean)}
        scores, _, took = self._scores.together(scored)
        metered = {**made.metered, "seconds": {**made.metered["seconds"], "verify": took}}
        record = {"verb": "preview", "ids": [p.id for p in some], "index": some[0].index, "scores": scores}
        self._recorder.append({**record, **digest, **metered}, some)

    def _generated(
        self, some: Sequence[Particle], made: Outcome, recipes: Callable[[Sequence[Particle]], list[dict[str, Any]]]
    ) -> None:
        """Write images down; beside their scoring where that may be."""
        self._remember(made)
        assert made.images is not None  # noqa: S101 - generating gives images
        record: dict[str, Any] = {"verb": "finish", "ids": [p.id for p in some], "seeds": [p.seed for p in some]}
        if made.previews is not None:
            record["previews"] = self._recorder.states.save_previews(some, made.previews)

        def write() -> None:
            self._write(some, made, record, recipes)

        if self._may_be_beside(made):
            self._beside.begin(write)
        else:
            write()

    def _may_be_beside(self, made: Outcome) -> bool:
        """Whether images may be written while verifiers look at them: where none can end the run, since each of them
        gave a number before, and where the next micro-batch, which asks what was written, is not begun meanwhile.
        """
        assert made.images is not None  # noqa: S101 - as above
        pixels = made.images.numel() // made.images.shape[1]
        return not made.pngs and pixels >= WORTH_A_THREAD and self._scores.proven and not self._overlaps()

    def _write(
        self, some: Sequence[Particle], made: Outcome, record: dict[str, Any],
        recipes: Callable[[Sequence[Particle]], list[dict[str, Any]]],
    ) -> None:  # fmt: skip
        """The files of finished images, then the line of the journal that names them."""
        pngs, pixels = list(made.pngs), list(made.pixels)
        if not pngs and made.images is not None:
            pngs, pixels = encoded(made.images, recipes(some))
        files = [self._store.save_image(one.id, png) for one, png in zip(some, pngs, strict=True)]
        for one, film in zip(some, made.films, strict=False):
            self._store.save_film(one.id, film)
        record |= {"files": files, "pixels": pixels, "digests": [digest_of(png) for png in pngs]}
        record |= {"steps": some[0].steps, **made.metered}
        if any(made.flagged):
            record["nsfw_content_detected"] = list(made.flagged)
        broken = {one.id: reason for one, reason in zip(some, made.broken, strict=True) if reason is not None}
        self._recorder.append({**record, "broken": broken} if broken else record, some)

    def _to_score(self, some: Sequence[Particle], made: Outcome) -> Sequence[ScoreJob]:
        assert made.images is not None  # noqa: S101 - generating gives images
        whole = [reason is None for reason in made.broken]
        return self._scores.jobs(made.images, whole, made.previews, aside=self._overlaps())

    def _remember(self, made: Outcome) -> None:
        self._recorder.states.remember(made.made, made.estimates)
