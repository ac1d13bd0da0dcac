from dataclasses import FrozenInstanceError

import pytest

from noisewright.run.particle import (
    Candidate,
    Particle,
    from_lineage,
    noise_particle,
    particle_id,
)


def chain():
    start = noise_particle(7, 20)
    varied = Particle("vary", (start,), {"cosine": 0.9, "draw": 2}, 0, 20)
    there = Particle("denoise", (varied,), {"to": 12}, 12, 20)
    back = Particle("renoise", (there,), {"to": 5, "draw": 0}, 5, 20)
    return Particle("denoise", (back,), {"to": 20}, 20, 20)


def test_ids_are_the_same_in_every_process_and_version():
    assert noise_particle(0, 20).id == "9e245692cf13b24b"
    assert chain().id == "333bd6bb575e9abd"


def test_ids_read_the_verb_the_arguments_and_the_parents():
    start, other = noise_particle(0, 20), noise_particle(1, 20)
    ids = [
        particle_id("denoise", (start.id,), {"to": 3}),
        particle_id("denoise", (start.id,), {"to": 4}),
        particle_id("denoise", (other.id,), {"to": 3}),
        particle_id("renoise", (start.id,), {"to": 3}),
        particle_id("denoise", (start.id, other.id), {"to": 3}),
        particle_id("denoise", (other.id, start.id), {"to": 3}),
        particle_id("denoise", (), {"to": 3}),
    ]
    assert len(set(ids)) == len(ids)
    assert particle_id("v", (), {"a": 1, "b": 2}) == particle_id("v", (), {"b": 2, "a": 1})
    assert noise_particle(0, 20).id != noise_particle(0, 21).id


def test_lineage_round_trip():
    particle = chain()
    lineage = particle.lineage()
    assert [one["verb"] for one in lineage] == ["noise", "vary", "denoise", "renoise", "denoise"]
    assert [one["index"] for one in lineage] == [0, 0, 12, 5, 20]
    again = from_lineage(lineage)
    assert again == particle
    assert again.lineage() == lineage
    assert again.steps == 20
    with pytest.raises(ValueError, match="empty"):
        from_lineage([])


def test_seed_is_there_only_where_plain_diffusers_can_make_it():
    start = noise_particle(7, 20)
    half = Particle("denoise", (start,), {"to": 10}, 10, 20)
    assert start.seed == 7
    assert half.seed == 7
    assert Particle("denoise", (half,), {"to": 20}, 20, 20).seed == 7
    assert chain().seed is None
    back = Particle("renoise", (half,), {"to": 0, "draw": 0}, 0, 20)
    assert back.seed is None
    assert Particle("denoise", (back,), {"to": 20}, 20, 20).seed is None
    assert Particle("vary", (start,), {"cosine": 0.5, "draw": 0}, 0, 20).seed is None


def test_particles_are_frozen_and_usable_as_keys():
    particle = chain()
    assert len({particle, chain()}) == 1
    with pytest.raises(FrozenInstanceError):
        particle.index = 3
    assert Candidate(noise_particle(5, 2), 0, {}, "", "").seed == 5
