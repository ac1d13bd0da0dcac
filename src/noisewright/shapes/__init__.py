"""The world of the bundled model: 64x64 scenes of coloured shapes, their prompts, and an exact reader.

``scene`` draws a scene, ``prompts`` holds the grammar and the prompt sets, ``oracle`` reads a scene back from
pixels and grades it against a prompt.
"""
