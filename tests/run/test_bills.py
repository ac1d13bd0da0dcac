"""What a run says of its requests to servers is its own, whatever a verifier was asked before."""

from dataclasses import dataclass

import noisewright as nw


@dataclass
class Asked:
    """As verifiers that ask servers count."""

    requests: int = 0
    tokens: int = 0
    price: tuple[float, float] | None = (1.0, 2.0)
    currency: str = "EUR"

    def __str__(self):
        return f"{self.requests} requests ({self.tokens} tokens)"


class Counted:
    """A verifier that costs something."""

    fingerprint = "counted"

    def __init__(self, name):
        self.name, self.usage = name, Asked()

    def __call__(self, images, prompt):
        self.usage.requests += len(images)
        self.usage.tokens += 10 * len(images)
        return images.mean((1, 2, 3)).tolist()


def bills(result):
    return [text for text in result.warnings if " sent " in text]


def test_each_of_several_runs_has_its_own_bill(tmp_path):
    one, judge = Counted("one"), Counted("judge")
    how = {"num_inference_steps": 2, "seed": 3, "pictures": False, "device": "cpu"}
    first = nw.search("noisewright/shapes", "a circle", verifier=one, judge=judge, budget="4 images",
                      out=tmp_path / "first", **how)  # fmt: skip
    asked = judge.usage.requests
    assert bills(first) == ["one sent 4 requests (40 tokens)", f"judge sent {asked} requests ({10 * asked} tokens)"]
    second = nw.search("noisewright/shapes", "a star", verifier=one, judge="none", budget="3 images",
                       out=tmp_path / "second", **how)  # fmt: skip
    assert bills(second) == ["one sent 3 requests (30 tokens)"]
    assert one.usage.requests == 7
