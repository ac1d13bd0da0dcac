"""What several rooms' tests stand on: a tiny model on disk, a quiet one in memory, no model at all; and the marks.

Fixtures import what they need: the process that only deals tests out to others waits for no library.
"""

import gc
import os
import pkgutil
import weakref
from collections import Counter

# Before torch is imported, and for the processes that tests start: workers of pytest-xdist on as many cores would wait
# for each other's threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


def pytest_collection_modifyitems(items):
    """Of a test that is ``sampled(k)``, one case in k is fast; the others are slow."""
    counted = Counter()
    for item in items:
        mark = item.get_closest_marker("sampled")
        if mark is not None:
            of = (item.path, item.originalname)
            if counted[of] % mark.args[0]:
                item.add_marker(pytest.mark.slow)
            counted[of] += 1


def pytest_collection_finish():
    """Libraries and tests stay to the end: the garbage collector need not look at them a thousand times."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _hooks_are_sought_where_there_are_some():
    """diffusers asks every module for a hook, several times a call: in vain while no registry of hooks is alive."""
    from diffusers.hooks import HookRegistry

    name = "diffusers.hooks.group_offloading._get_top_level_group_offload_hook"
    registries, begin = weakref.WeakSet(), HookRegistry.__init__
    sought = pkgutil.resolve_name(name)

    def counted(registry, *given):
        registries.add(registry)
        begin(registry, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HookRegistry, "__init__", counted)
        patch.setattr(name, lambda module: sought(module) if registries else None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _alone():
    """A worker of pytest-xdist waits for its orders in a thread, which draws no random numbers."""
    from noisewright.samplers import chance

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chance, "WAITING", (*chance.WAITING, "execnet.gateway_base"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Digests of models are remembered in a directory of each process's own, not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A tiny Stable Diffusion on disk; to be read, or copied first."""
    import tiny

    folder = tmp_path_factory.mktemp("saved") / "model"
    tiny.sd().save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def model(saved):
    """The same; the tests of ``registry`` have one of their own that they may change."""
    return saved


@pytest.fixture(scope="module")
def pipe():
    """A tiny Stable Diffusion in memory, without progress bars."""
    import tiny

    made = tiny.sd()
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """A tiny ViT of random weights, with its image processor: 4 classes, 16 features."""
    from reward_models import write_vit

    return write_vit(tmp_path_factory.mktemp("classifier"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The directory that a test works in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_model(here, monkeypatch):
    """Whatever loads the weights of a pipeline fails; relative paths are the test's own."""
    import diffusers

    def refuse(*given, **more):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", refuse)


@pytest.fixture
def no_account(monkeypatch):
    """No key and no address of a server in the environment."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
