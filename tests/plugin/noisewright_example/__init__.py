"""A third party's package: it adds one of each kind to noisewright, knowing only what is public."""

from noisewright.registry import Entry

PLUGINS = [
    Entry(
        kind="search",
        name="example-tournament",
        summary="pairs of fresh noises, then the winners' neighbours",
        target="noisewright_example.search:tournament",
        details={"cost": "S * P * (2 + K) NFE", "reference": "this example"},
    ),
    Entry(
        kind="verifier",
        name="example-redness",
        summary="mean of red less the mean of the others",
        target="noisewright_example.verifier:Redness",
        details={"range": "-1..1", "options": "weight, name"},
    ),
    Entry(
        kind="solver",
        name="example-ab2",
        summary="Adams-Bashforth of two noises, by the levels' own distances",
        target="noisewright_example.solver:AdamsBashforth",
        details={"nfe per step": "1", "order": "2", "eta": "none"},
        options={"name": "example-ab2"},
    ),
    Entry(
        kind="schedule",
        name="example-arctan",
        summary="even in arctan(sigma / alpha)",
        target="noisewright_example.schedule:arctan",
    ),
    Entry(
        kind="sampler",
        name="example-blobs",
        summary="the blobs of BlobPipeline, which has no scheduler",
        target="noisewright_example.sampler:BlobSampler",
        takes=("BlobPipeline",),
    ),
    Entry(
        kind="model",
        name="example/blobs",
        summary="pictures of one colour, which the prompt names",
        target="noisewright_example.sampler:load",
    ),
    Entry(
        kind="executor",
        name="example-eager",
        summary="does each job as soon as it is submitted",
        target="noisewright_example.executor:EagerExecutor",
    ),
]
