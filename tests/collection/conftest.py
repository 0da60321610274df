"""The collection as it is built, importable as Ansible imports it, and a server for it."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from app.node.goversion import this_platform
from tests.fakes.fleet import FakeFleet

ROOT = Path(__file__).parents[2]
V1, V2, V3 = "go1.99.1", "go1.99.2", "go1.99.3"


@pytest.fixture(scope="session")
def builder() -> ModuleType:
    """Return ansible/build.py; "ansible" itself is the name of a package."""
    spec = importlib.util.spec_from_file_location("build_collection", ROOT / "ansible/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def collections(builder: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder that holds ansible_collections/."""
    folder = tmp_path_factory.mktemp("collections")
    builder.lay_out(folder)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.startswith("ansible_collections")]:
        del sys.modules[name]


@pytest.fixture
def fleet() -> Iterator[FakeFleet]:
    with FakeFleet(platform=this_platform()) as fake:
        fake.put_release(V1)
        yield fake
