"""Drafts: cheap images from the same noise as the real ones, each kind exact about what it computes.

- ``steps``: the same noise on a schedule of fewer steps.
- ``size``: a smaller image. Its noise is the full one, averaged over blocks of ``by x by`` and multiplied by ``by``,
  which is unit Gaussian noise again (the sum of n independent ones, over sqrt(n)).
- ``dtype``: the network that is asked once a step works in half precision, as a copy of its own; states, guidance, the
  solver and the decoder stay as they are.
- ``cache``: :mod:`~.caches`.
- ``guidance``: up to an index the pipeline as it is; from there the same pipeline with a guidance scale of 1, which
  asks the network for the conditional prediction alone.
- ``truncate``: up to an index the same steps; what is decoded is the clean estimate there, one evaluation more.
"""

from noisewright.samplers.drafts.making import drafted

__all__ = ["drafted"]
