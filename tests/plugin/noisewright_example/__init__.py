"""A third party's package: it adds a search and a verifier to noisewright, knowing only what is public."""

from noisewright.registry.builtins import Entry

PLUGINS = [
    Entry(
        "search", "example-tournament", "pairs of fresh noises, then the winners' neighbours",
        "noisewright_example.search:tournament",
        {"cost": "S * P * (2 + K) NFE", "reference": "this example"},
    ),
    Entry("verifier", "example-redness", "mean of red less the mean of the others",
          "noisewright_example.search:Redness", {"range": "-1..1"}),
]  # fmt: skip
