"""Steps that install a release: what they name, and what a release without the archive gives."""

import pytest

from app.core.clientconfig import Target
from app.core.digest import Digest
from app.core.errors import BadInputError
from app.core.gorelease import ReleaseFile, ReleaseFileKind
from app.core.installsteps import TARGETS, install_steps

BASE = "https://moorage.example:8443"
LINUX, WINDOWS = "go1.99.2.linux-amd64.tar.gz", "go1.99.2.windows-amd64.zip"


def file(name: str, *, digest: str = "ab") -> ReleaseFile:
    _, _, rest = name.partition("go1.99.2.")
    os, _, arch = rest.split(".")[0].partition("-")
    kind = ReleaseFileKind.INSTALLER if name.endswith("msi") else ReleaseFileKind.ARCHIVE
    return ReleaseFile(name, os, arch, "go1.99.2", Digest(digest * 32), 5, kind)


FILES = (
    file("go1.99.2.windows-amd64.msi", digest="cd"),
    file("go1.99.2.linux-arm64.tar.gz", digest="cd"),
    file(WINDOWS),
    file(LINUX),
)


@pytest.mark.parametrize("target", TARGETS)
def test_the_steps_name_the_address_the_archive_and_its_hash(target: Target) -> None:
    text = install_steps(target, BASE, FILES)
    assert text is not None
    assert text.endswith("\n")
    if target is Target.GITHUB_ACTIONS:
        assert f"go-download-base-url: {BASE}/dl\n" in text
        assert 'go-version: "1.99.x"' in text
        return
    name = WINDOWS if target is Target.POWERSHELL else LINUX
    assert f"{BASE}/dl/{name}" in text
    assert "ab" * 32 in text
    assert "cd" * 32 not in text


def test_without_the_archive_there_are_no_steps() -> None:
    assert install_steps(Target.POWERSHELL, BASE, (file(LINUX),)) is None
    assert install_steps(Target.SH, BASE, (file(WINDOWS),)) is None
    assert install_steps(Target.SH, BASE, ()) is None


def test_there_are_no_steps_for_a_systemd_unit() -> None:
    with pytest.raises(BadInputError, match="systemd"):
        install_steps(Target.SYSTEMD, BASE, FILES)
