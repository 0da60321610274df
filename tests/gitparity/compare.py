"""The comparison: every version, list and query of the corpus, direct and through Moorage."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from tests.gitparity.corpus import HOST
from tests.gitparity.goruns import GoRuns, differences


def compare(
    go: GoRuns,
    goproxy: str,
    modules: Mapping[str, tuple[str, ...]],
    *,
    is_thorough: bool = True,
    parallel: int = 2,
) -> tuple[int, list[str]]:
    """Return how many answers were compared, and in words what differs.

    Thorough: each version and query in a cache of its own, and Origin, too.
    """

    def of_module(item: tuple[str, tuple[str, ...]]) -> tuple[int, list[str]]:
        return _of_module(go, goproxy, *item, is_thorough=is_thorough)

    with ThreadPoolExecutor(parallel) as threads:
        outcomes = list(threads.map(of_module, modules.items()))
    return sum(count for count, _ in outcomes), [line for _, lines in outcomes for line in lines]


def _of_module(
    go: GoRuns, goproxy: str, path: str, queries: Iterable[str], *, is_thorough: bool
) -> tuple[int, list[str]]:
    module = f"{HOST}/{path}"
    names = [module, *(f"{module}@{query}" for query in ("latest", "upgrade", "patch", *queries))]
    direct, proxied = go.listed("direct", names), go.listed(goproxy, names)
    lines = differences(direct, proxied)
    resolved = {d["Version"] for d in direct.values() if d.get("Version")}
    tagged = direct[module].get("Versions") or []
    versions = [f"{module}@{v}" for v in sorted({*tagged, *resolved})]
    every = list(dict.fromkeys([*versions, *(f"{module}@{query}" for query in queries)]))
    ask = go.downloads if is_thorough else go.download
    one, other = ask("direct", every), ask(goproxy, every)
    if not is_thorough:
        for document in (*one.values(), *other.values()):
            document.pop("Origin", None)
    lines += differences(one, other)
    return len(names) + len(every), lines
