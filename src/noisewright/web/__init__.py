"""``noisewright serve``: a page over run directories. See :mod:`noisewright.web.app`."""
