"""What each verb does with a micro-batch: the job it makes, and what of the outcome goes to disk and journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from noisewright.executors.protocol import Outcome, ScoreJob
from noisewright.images.metadata import RECIPE_VERSION
from noisewright.images.previews import preview_jpeg
from noisewright.run.batches import Verb
from noisewright.run.digests import digest_of
from noisewright.run.jobs import Jobs
from noisewright.run.lineage import Lineages
from noisewright.run.particle import Particle
from noisewright.run.recorder import Recorder
from noisewright.run.scores import Scores
from noisewright.run.store import Store
from noisewright.samplers.protocol import Sampler


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
        sampler = self._final if particle.steps == self._final.schedule.steps else self._search
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
    """

    def __init__(
        self, store: Store, recorder: Recorder, jobs: Jobs, scores: Scores, recipes: Recipes,
        overlaps: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._store = store
        self._recorder = recorder
        self._jobs = jobs
        self._scores = scores
        self._recipes = recipes
        self._overlaps = overlaps

    def denoising(self) -> Verb:
        """Carry on to unfinished particles at one index."""
        return Verb(self._jobs.denoise, self.reached)

    def ascending(self) -> Verb:
        """A step of gradient ascent."""
        return Verb(self._jobs.ascend, self._ascended)

    def previewing(self) -> Verb:
        """Clean estimates, scored."""
        return Verb(self._jobs.estimate, self._estimated, self._previewed)

    def finishing(self, sampler: Sampler) -> Verb:
        """Finished images, saved and scored."""
        versions = self._store.run["versions"]

        def job(some: Sequence[Particle]) -> Any:
            recipes = [self._recipes.of(one, len(some), place, versions) for place, one in enumerate(some)]
            return self._jobs.generate(some, sampler, recipes)

        def settle(some: Sequence[Particle], made: Outcome, scored: Sequence[Outcome]) -> None:
            assert made.images is not None  # noqa: S101 - generating gives images
            self._scores.write(some, made.images, scored)

        return Verb(job, self._generated, settle)

    def reached(self, some: Sequence[Particle], made: Outcome) -> Sequence[ScoreJob]:
        """Keep the states that particles at one index have."""
        self._remember(made)
        assert made.states is not None  # noqa: S101 - denoising gives states
        digest = self._recorder.states.save(some, *made.states)
        ids = [p.id for p in some]
        record = {"verb": "denoise", "ids": ids, "to": some[0].index, "state": digest}
        self._recorder.append({**record, **made.metered}, some)
        return ()

    def _ascended(self, some: Sequence[Particle], made: Outcome) -> Sequence[ScoreJob]:
        self._remember(made)
        assert made.states is not None  # noqa: S101 - ascending gives noises and velocities
        digest = self._recorder.states.save(some, *made.states)
        record = {"verb": "ascend", "ids": [p.id for p in some], "objective": list(made.objective), "state": digest}
        self._recorder.append({**record, **made.metered}, some)
        return ()

    def _estimated(self, some: Sequence[Particle], made: Outcome) -> Sequence[ScoreJob]:
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

    def _generated(self, some: Sequence[Particle], made: Outcome) -> Sequence[ScoreJob]:
        self._remember(made)
        assert made.images is not None  # noqa: S101 - generating gives images
        record: dict[str, Any] = {"verb": "finish", "ids": [p.id for p in some], "seeds": [p.seed for p in some]}
        if made.previews is not None:
            record["previews"] = self._recorder.states.save_previews(some, made.previews)
        files = [self._store.save_image(one.id, png) for one, png in zip(some, made.pngs, strict=True)]
        for one, film in zip(some, made.films, strict=False):
            self._store.save_film(one.id, film)
        record |= {"files": files, "pixels": list(made.pixels), "digests": [digest_of(png) for png in made.pngs]}
        record |= {"steps": some[0].steps, **made.metered}
        if any(made.flagged):
            record["nsfw_content_detected"] = list(made.flagged)
        broken = {one.id: reason for one, reason in zip(some, made.broken, strict=True) if reason is not None}
        self._recorder.append({**record, "broken": broken} if broken else record, some)
        whole = [reason is None for reason in made.broken]
        return self._scores.jobs(made.images, whole, made.previews, aside=self._overlaps())

    def _remember(self, made: Outcome) -> None:
        self._recorder.states.remember(made.made, made.estimates)
