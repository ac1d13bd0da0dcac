"""``noisewright serve``: a page over run directories (:mod:`~.web.app`), and an images endpoint (:mod:`~.web.openai`)."""
