"""A verifier of the example's own."""


class Redness:
    """How red an image is.

    Args:
        weight: what the scores are multiplied with.
        name: what they are called.
    """

    lasting = True

    def __init__(self, weight: float = 1.0, *, name: str = "example-redness"):
        self.weight, self.name = weight, name
        self.fingerprint = f"example-redness-1-{weight:g}"

    def __call__(self, images, prompt):
        """Scores of images (batch, 3, height, width) in [0, 1]."""
        return (self.weight * (images[:, 0] - images[:, 1:].mean(1)).mean((1, 2))).tolist()

    def check(self, prompt):
        """Refuse a prompt that there is nothing red in."""
        if "blue" in prompt:
            raise ValueError(f"expected a prompt without blue for {self.name}, got {prompt!r}")
