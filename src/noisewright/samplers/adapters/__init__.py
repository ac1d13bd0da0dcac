"""What makes a sampler of a pipeline, a family a file: functions ``(pipe, prompt, **settings) -> Sampler``.

Each is the target of an entry of the kind ``sampler``, which says which pipelines it takes; so is a plug-in's.
"""
