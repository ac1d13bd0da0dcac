"""``noisewright serve``: a page over run directories (:mod:`~.web.app`), an images endpoint (:mod:`~.web.openai`)."""
