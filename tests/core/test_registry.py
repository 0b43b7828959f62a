import sys
from pathlib import Path

import pytest

from mmalign import registry
from mmalign.errors import UserError


def distribution(folder: Path, name: str, entry_points: str, **modules: str) -> None:
    """What pip leaves behind: modules and a .dist-info with entry points."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.load.cache_clear()
    yield tmp_path
    registry.load.cache_clear()
    for name in [name for name in sys.modules if name.startswith("stranger_")]:
        del sys.modules[name]


def test_first_party_names() -> None:
    assert {"image", "text", "vector"} <= set(registry.names("modalities"))
    assert {"clip", "siglip"} <= set(registry.names("objectives"))
    assert {"manifest", "digits", "datasets", "webdataset"} <= set(registry.names("sources"))


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"no modality called 'imgae'; did you mean 'image'\? \(known: .*vector, video\)$"
    ):
        registry.load("modalities", "imgae")


def test_an_unknown_modality_explains_how_to_add_one() -> None:
    with pytest.raises(
        UserError, match=r"no modality called 'audio' \(known: .*use the modality vector.*--plugin FILE$"
    ):
        registry.load("modalities", "audio")


def test_an_external_package_registers_a_modality(site: Path) -> None:
    distribution(site, "stranger", "[mmalign.objectives]\nmine = stranger_a:THING\n", stranger_a="THING = 7\n")
    assert registry.load("objectives", "mine") == 7


def test_two_distributions_of_one_name(site: Path) -> None:
    distribution(site, "stranger", "[mmalign.modalities]\nimage = stranger_b:THING\n", stranger_b="THING = 7\n")
    with pytest.raises(UserError, match=r"image.*uninstall one") as caught:
        registry.load("modalities", "image")
    assert "stranger" in str(caught.value)
    assert "mmalign" in str(caught.value)


def test_a_missing_package_names_the_extra(site: Path) -> None:
    points = "[mmalign.modalities]\nsmell = stranger_c:THING\n"
    distribution(site, "stranger", points, stranger_c="import no_such_nose\nTHING = 1\n")
    with pytest.raises(UserError, match=r"'no_such_nose' is not installed; run: pip install 'mmalign\[smell\]'"):
        registry.load("modalities", "smell")


def test_a_shadowed_module_is_explained(site: Path) -> None:
    distribution(site, "stranger", "[mmalign.sources]\nlost = stranger_gone.inner:THING\n")
    with pytest.raises(UserError, match=r"another distribution may have put its own top-level 'stranger_gone'"):
        registry.load("sources", "lost")


def test_a_name_that_points_nowhere(site: Path) -> None:
    distribution(site, "stranger", "[mmalign.sources]\nbare = stranger_d:THING\n", stranger_d="")
    with pytest.raises(UserError, match=r"bare.*stranger_d:THING does not exist"):
        registry.load("sources", "bare")
