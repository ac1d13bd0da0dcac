import pytest

from noisewright.web.lineage import tree
from noisewright.web.live import Live


def tree_of(root):
    live = Live(root, root.name)
    live.refresh()
    return live, tree(live)


def searched(saved, root, search, args, **more):
    import noisewright as nw

    nw.search(str(saved), "any", verifier="brightness", judge=[], search=search, search_args=args, out=root,
              progress=False, **{"budget": "20 images", "num_inference_steps": 4, **more})  # fmt: skip
    return root


def test_a_zero_order_search_is_a_tree_of_its_pivots(runs):
    live, found = tree_of(runs / "first")
    nodes = found["nodes"]
    assert {one["candidate"] for one in nodes} == set(live.watch.ledger.candidates)
    assert [one["verb"] for one in nodes] == ["noise"] + ["vary"] * 8
    assert nodes[0]["parents"] == []
    assert all(one["parents"][0] < number for number, one in enumerate(nodes) if number)
    assert not found["flat"]
    assert sum(one["best"] for one in nodes) == 1


def test_the_way_to_the_best_is_marked_from_its_noise_on(runs):
    _, found = tree_of(runs / "first")
    nodes = found["nodes"]
    at = next(number for number, one in enumerate(nodes) if one["best"])
    way = {at}
    while nodes[at]["parents"]:
        at = nodes[at]["parents"][0]
        way.add(at)
    assert {number for number, one in enumerate(nodes) if one["last"]} == way


@pytest.mark.parametrize(("search", "args", "more"), [
    ("fk", {"particles": 4}, {"solver": "ddim", "eta": 1.0}),
    ("paths", {}, {"budget": "200 nfe"}),
    ("evolution", {"population": 4, "elites": 2}, {}),
    ("refine", {"population": 3, "elites": 2}, {}),
])  # fmt: skip
def test_of_every_search_each_has_a_place_of_its_own(saved, tmp_path, search, args, more):
    live, found = tree_of(searched(saved, tmp_path / search, search, args, **more))
    nodes = found["nodes"]
    places = [(one["x"], one["y"]) for one in nodes]
    leaves = [one for number, one in enumerate(nodes) if not any(number in other["parents"][:1] for other in nodes)]
    assert len({one["y"] for one in leaves}) == len(leaves)
    assert max(x for x, _ in places) + 1 == found["width"]
    assert all(nodes[one["parents"][0]]["x"] == one["x"] - 1 for one in nodes if one["parents"])
    assert {one["candidate"] for one in nodes if one["candidate"]} == set(live.watch.ledger.candidates)
    assert {one["verb"] for one in nodes} - {"noise"}


@pytest.mark.parametrize("drafts", [{"draft": "truncate,at=0.5,pilot=0"}, {"draft": "steps,n=2,pilot=0"},
                                    {"search_steps": 2}])  # fmt: skip
def test_a_full_image_stands_where_its_draft_does(saved, tmp_path, drafts):
    live, found = tree_of(searched(saved, tmp_path / "x", "zero-order", {"neighbours": 3}, **drafts))
    candidates = live.watch.ledger.candidates
    made = [key for key, one in candidates.items() if live.is_draft(one)]
    nodes = found["nodes"]
    assert len(nodes) == len(made) < len(candidates)
    assert sum(not one["parents"] for one in nodes) == 1
    best = next(one for one in nodes if one["best"])
    assert not live.is_draft(candidates[best["candidate"]])
    assert (best["reached"], best["steps"]) == (4, 4)
    at, way = best, [best]
    while at["parents"]:
        at = nodes[at["parents"][0]]
        way.append(at)
    assert [one for one in nodes if one["last"]] == sorted(way, key=nodes.index)


def test_of_plain_best_of_n_no_candidate_came_of_another(saved, tmp_path):
    _, found = tree_of(searched(saved, tmp_path / "random", "random", {}, budget="30 images", num_inference_steps=2))
    assert found["flat"]
    assert len({(one["x"], one["y"]) for one in found["nodes"]}) == 30


def test_of_too_many_those_that_led_to_the_best_are_shown(runs, monkeypatch):
    monkeypatch.setattr("noisewright.web.lineage.MOST_NODES", 5)
    _, found = tree_of(runs / "first")
    assert len(found["nodes"]) + found["left_out"] == 9
    assert len(found["nodes"]) <= 5
    assert any(one["best"] for one in found["nodes"])


def test_the_page_gets_it(client):
    assert client.get("/api/lineage", params={"run": "first"}).json()["nodes"]
