"""x"""

from pathlib import Path

from app.wiring import Services
from tests.e2e.modules.served import add_route, add_tenant
from tests.e2e.sumdb.conftest import MakeGo
from tests.e2e.sumdb.relayed import relaying
from tests.fakes.godev import FakeGodev
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.fakes.sumdb import FakeSumdb

V = "v1.0.0"


def test_both(warm, tmp_path: Path, make_go: MakeGo) -> None:
    vkeys = {}
    with FakeGoproxy() as proxy, FakeGoproxy() as corp, FakeSumdb() as log:

        async def arrange(services: Services) -> None:
            await add_tenant(services, "acme", catch_all=False)
            await add_route(services, "acme", "*", proxy.url)
            await add_route(services, "acme", "corp.example", corp.url, private=True)
            made = await services.logs.create("acme")
            vkeys["acme"] = (made.name, made.vkey)

        with relaying(warm, tmp_path, proxy, log, arrange) as relayed:
            one = module("example.com/pub", V)
            relayed.publish(one)
            two = module("corp.example/secret", V)
            corp.put(two)
            name, vkey = vkeys["acme"]
            for g in (vkey, f"{vkey} {relayed.url('acme')}/sumdb/{name}"):
                go = make_go(relayed.url("acme"), g, GONOSUMDB="", GOPRIVATE="")
                go.program(
                    "corp.example/secret",
                    "example.com/pub",
                    body="println(secret.Hello(), pub.Hello())",
                )
                done = go.run("mod", "tidy")
                print(done, go.go_sum())
                print(go.run("run", "."))
                for l in relayed.served.server.events[-12:]:
                    print(l)
                assert done.code == 0


def test_toolchain(warm, tmp_path: Path, make_go: MakeGo, real_upstream) -> None:
    vkeys = {}
    with (
        FakeGoproxy() as proxy,
        FakeSumdb() as log,
        FakeGodev().from_directory(real_upstream) as godev,
    ):

        async def arrange(services: Services) -> None:
            await add_tenant(services, "acme", catch_all=False)
            made = await services.logs.create("acme")
            vkeys["acme"] = (made.name, made.vkey)

        with relaying(
            warm,
            tmp_path,
            proxy,
            log,
            arrange,
            sumdb__upstreams=[],
            releases__index_url=godev.index_url,
            releases__files_urls=[godev.files_url],
            releases__sha256_only=["tar.gz", "zip"],
        ) as relayed:
            name, vkey = vkeys["acme"]
            r = relayed.served.get("golang.org/toolchain/@v/list", "acme")
            print(r.status, r.text)
            import time

            t = time.time()
            for g in (vkey, f"{vkey} {relayed.url('acme')}/sumdb/{name}"):
                go = make_go(relayed.url("acme"), g, GOTOOLCHAIN="go1.23.1")
                done = go.run("version")
                print(done, time.time() - t)
                go.program(body="println(42)")
                print(go.run("run", "."), time.time() - t)
                for l in relayed.served.server.events[-12:]:
                    print(l)
                assert done.code == 0
