"""Searches: one algorithm a file, each a straight-line function over the verbs of :class:`noisewright.run.verbs.Run`.

What one calls, ``noisewright.search(pipe, prompt, ...)``, is :func:`noisewright.api.search`: see
:class:`noisewright._Package`.
"""
