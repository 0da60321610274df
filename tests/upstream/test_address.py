from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import BadInputError, DeniedError
from app.core.privatehost import PrivateHosts
from app.upstream.address import AddressGuard, AllowedNetwork, OwnListener, is_public
from app.upstream.url import Credential, Url

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("text", "origin", "target"),
    [
        ("https://go.dev", "https://go.dev", "/"),
        ("https://GO.dev:443/dl/?mode=json", "https://go.dev", "/dl/?mode=json"),
        ("http://127.0.0.1:8080/a%2fb", "http://127.0.0.1:8080", "/a%2fb"),
        ("http://[::1]:80/x#part", "http://[::1]", "/x"),
        ("https://a_b.example/x?", "https://a_b.example", "/x"),
    ],
)
def test_a_url_is_taken_apart(text, origin, target):
    url = Url.parse(text)
    assert (url.origin, url.target) == (origin, target)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "go.dev/dl",
        "//go.dev/dl",
        "file:///etc/passwd",
        "ftp://go.dev/",
        "gopher://go.dev/",
        "https:///x",
        f"https://user:{SECRET}@go.dev/",
        f"https://{SECRET}@go.dev/",
        f"https://@go.dev/{SECRET}",
        f"https://go.dev:99999/{SECRET}",
        f"https://go.dev:0/{SECRET}",
        f"https://go.dev:x/{SECRET}",
        f"https://go.dev\\@evil/{SECRET}",
        f"https://go.dev/ {SECRET}",
        f"https://go.dev/\r\n{SECRET}",
        f"https://gö.dev/{SECRET}",
        f"https://go..dev/{SECRET}",
        f"https://-go.dev/{SECRET}",
        f"https://{'a' * 64}.dev/{SECRET}",
        f"https://[::1/{SECRET}",
        f"https://[1:2:]/{SECRET}",
        f"https://[fe80::1%25eth0]/{SECRET}",
        f"https://[v1.x]/{SECRET}",
    ],
)
def test_F53_what_is_no_plain_web_url_is_refused_without_repeating_it(text):
    with pytest.raises(BadInputError) as caught:
        Url.parse(text)
    assert SECRET not in str(caught.value)


@given(st.text(max_size=60) | st.text(max_size=40).map("https://".__add__))
def test_url_parse_raises_nothing_else_and_prints_back(text):
    try:
        url = Url.parse(text)
    except BadInputError:
        return
    assert Url.parse(url.origin + url.target) == url


@given(st.text(max_size=60))
def test_redirect_raises_nothing_else(location):
    try:
        url = Url.parse("https://go.dev/a/b").redirect(location)
    except BadInputError:
        return
    assert url.scheme == "https"


@pytest.mark.parametrize(
    ("location", "follow_to", "leads_to"),
    [
        ("/b", None, "https://go.dev/b"),
        ("c?d", frozenset(), "https://go.dev/a/c?d"),
        ("//dl.google.com/go/x", None, "https://dl.google.com/go/x"),
        ("https://dl.google.com/x", frozenset({"dl.google.com"}), "https://dl.google.com/x"),
        (
            "https://dl.google.com/x",
            frozenset({"https://dl.google.com"}),
            "https://dl.google.com/x",
        ),
        ("http://go.dev/b", None, None),
        ("https://dl.google.com:8443/x", frozenset({"https://dl.google.com"}), None),
        ("https://evil.example/x", frozenset({"dl.google.com"}), None),
        ("https://evil.example/x", frozenset(), None),
        ("file:///etc/passwd", None, None),
        ("ftp://go.dev/x", None, None),
        ("gopher://go.dev/x", None, None),
        ("https://user:pw@go.dev/x", None, None),
        ("https://go.dev/\n", None, None),
    ],
)
def test_F53_redirects_lead_only_where_they_may(location, follow_to, leads_to):
    url = Url.parse("https://go.dev/a/b?q")
    if leads_to is None:
        with pytest.raises(BadInputError):
            url.redirect(location, follow_to)
    else:
        assert url.redirect(location, follow_to) == Url.parse(leads_to)


@pytest.mark.parametrize(
    "other",
    [
        "http://repo.example:8443/",
        "https://repo.example/",
        "https://repo.example:8444/",
        "https://xrepo.example:8443/",
        "https://repo.example.evil:8443/",
    ],
)
def test_F53_a_credential_goes_to_its_scheme_host_and_port_alone(other):
    credential = Credential("repo", "https://repo.example:8443", "PRIVATE-TOKEN", SECRET)
    assert credential.headers_for(Url.parse("https://REPO.example:8443/x")) == {
        "PRIVATE-TOKEN": SECRET
    }
    assert credential.headers_for(Url.parse(other)) == {}
    assert SECRET not in repr(credential)


def test_credentials_are_written_as_their_rfc_says():
    basic = Credential.basic("a", "https://h.example", "Aladdin", "open sesame")  # RFC 7617
    assert basic.value == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert Credential.bearer("a", "https://h.example", "t0k").value == "Bearer t0k"


@pytest.mark.parametrize(
    ("origin", "header", "value"),
    [
        ("https://h.example/", "Authorization", SECRET),
        ("https://h.example:443", "Authorization", SECRET),
        ("https://H.example", "Authorization", SECRET),
        ("https://h.example", "Bad Header", SECRET),
        ("https://h.example", "Authorization", ""),
        ("https://h.example", "Authorization", f"{SECRET}\r\nX: y"),
        ("https://h.example", "Authorization", f"{SECRET}é"),
    ],
)
def test_a_credential_that_could_not_be_a_header_is_refused_unseen(origin, header, value):
    with pytest.raises(BadInputError) as caught:
        Credential("a", origin, header, value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "address", "port", "admitted"),
    [
        ("127.0.0.0/8", "127.1.2.3", 1, True),
        ("127.0.0.0/8", "128.0.0.1", 1, False),
        ("10.1.2.0/24:8443", "10.1.2.9", 8443, True),
        ("10.1.2.0/24:8443", "10.1.2.9", 443, False),
        ("[::1]/128:443", "::1", 443, True),
        ("[::1]/128:443", "127.0.0.1", 443, False),
        ("fd00::/8", "fd12::1", 80, True),
        ("[fd00::]/8", "fd12::1", 80, True),
        ("0.0.0.0/0", "::1", 80, False),
    ],
)
def test_an_allowed_network_admits_its_addresses_and_port(text, address, port, admitted):
    assert AllowedNetwork.parse(text).admits(ip_address(address), port) is admitted


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1", "10.1.2.3/24", "10.0.0.0/33", "10.0.0.0/8:0", "10.0.0.0/8:65536",
     "10.0.0.0/8:", "10.0.0.0/8:443x", "[10.0.0.0]/8", "[::1/128", "::1]/128", "[::1]:443",
     "localhost/8", "10.0.0.0/255.0.0.0", " 10.0.0.0/8", "010.0.0.0/8", "10.0.0.0/8\n"],
)  # fmt: skip
def test_what_is_no_network_is_refused(text):
    with pytest.raises(BadInputError):
        AllowedNetwork.parse(text)


PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255",
    "127.0.0.1", "127.255.255.255", "169.254.169.254", "172.16.0.1", "172.31.255.255",
    "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:2::1", "2001:db8::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2002:7f00:1::", "2002:a00:1::1", "3fff::1", "5f00::1",
    "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255",
    "172.32.0.0", "142.250.74.46", "223.255.255.255", "2606:4700::1111", "2a00:1450:4001::200e",
    "2001:4860:4860::8888", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_F54_private_addresses_in_every_disguise_are_blocked(address):
    assert not AddressGuard().is_allowed(address, 443)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address):
    assert AddressGuard().is_allowed(address, 443)


@pytest.mark.parametrize("text", ["", "x", "127.1", "2130706433", "1.2.3", "::g"])
def test_what_is_no_address_is_not_allowed(text):
    everything = [AllowedNetwork.parse("0.0.0.0/0"), AllowedNetwork.parse("::/0")]
    assert not AddressGuard(everything).is_allowed(text, 443)


@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
def test_nothing_is_public_that_the_standard_library_calls_private(address):
    if is_public(address) and not (isinstance(address, IPv6Address) and address.ipv4_mapped):
        assert address.is_global


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_an_embedded_address_is_judged_as_itself(v4):
    number = int(v4)
    for embedded in (
        IPv6Address((0xFFFF << 32) | number),
        IPv6Address((0x64FF9B << 96) | number),
        IPv6Address((0x2002 << 112) | (number << 80)),
    ):
        assert is_public(embedded) == is_public(v4)


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_an_allowed_network_opens_its_port_and_no_other(address):
    guard = AddressGuard([AllowedNetwork.parse("127.0.0.0/8:8443")])
    assert guard.is_allowed(address, 8443)
    assert not guard.is_allowed(address, 443)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0", "127.0.0.1", "localhost"])
async def test_F55_numeric_spellings_of_loopback_are_blocked_through_resolution(host):
    with pytest.raises(DeniedError, match="MOORAGE_NETWORK__ALLOW"):
        await AddressGuard().addresses(host, 443)


def answering(*addresses: str):
    async def resolver(host: str, port: int) -> list[str]:
        return list(addresses)

    return resolver


@pytest.mark.parametrize(
    "answers",
    [["10.0.0.1"], ["1.1.1.1", "10.0.0.1"], ["10.0.0.1", "1.1.1.1"], ["2606:4700::1111", "::1"]],
)
async def test_F56_one_private_answer_refuses_the_host_and_is_not_told(answers):
    with pytest.raises(DeniedError, match=r"has a (private|loopback) address, which") as caught:
        await AddressGuard(resolver=answering(*answers)).addresses("up.example", 443)
    assert "10.0.0.1" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("10.0.0.1", "a private address"),
        ("fd00::1", "a private address"),
        ("127.0.0.1", "a loopback address"),
        ("::1", "a loopback address"),
        ("::ffff:127.0.0.1", "a loopback address"),
        ("169.254.169.254", "a link-local address"),
        ("fe80::1%eth0", "a link-local address"),
        ("100.64.0.1", "an address shared behind carrier-grade NAT"),
        ("192.0.2.1", "an address reserved for documentation"),
        ("203.0.113.7", "an address reserved for documentation"),
        ("2001:db8::1", "an address reserved for documentation"),
        ("198.18.0.1", "an address reserved for benchmarks"),
        ("240.0.0.1", "a reserved address"),
        ("64:ff9b:1::1", "a reserved address"),
        ("224.0.0.1", "a multicast address"),
        ("ff02::1", "a multicast address"),
    ],
)
async def test_F54_a_refusal_names_the_kind_of_address(address: str, kind: str) -> None:
    with pytest.raises(DeniedError, match=f"^up.example:443 has {kind}, which is not of the"):
        await AddressGuard(resolver=answering(address)).addresses("up.example", 443)


async def test_all_public_answers_are_kept_in_order():
    guard = AddressGuard(resolver=answering("2606:4700::1111", "1.1.1.1"))
    assert await guard.addresses("up.example", 443) == ["2606:4700::1111", "1.1.1.1"]


async def test_no_answer_is_an_error_of_the_network():
    with pytest.raises(OSError, match="no address"):
        await AddressGuard(resolver=answering()).addresses("up.example", 443)


async def test_a_private_address_takes_an_allowed_network_and_a_listed_host():
    allow, hosts = [AllowedNetwork.parse("10.0.0.0/8")], PrivateHosts(["athens.corp:443"])
    guard = AddressGuard(allow, answering("10.1.2.3"), hosts=hosts)
    assert await guard.addresses("athens.corp", 443) == ["10.1.2.3"]
    for host, port in (("athens.corp", 80), ("other.corp", 443)):
        with pytest.raises(DeniedError, match="private-host"):
            await guard.addresses(host, port)
    outside = AddressGuard(allow, answering("192.168.0.1"), hosts=hosts)
    with pytest.raises(DeniedError):
        await outside.addresses("athens.corp", 443)
    public = AddressGuard(allow, answering("1.1.1.1"), hosts=hosts)
    assert await public.addresses("proxy.example", 443) == ["1.1.1.1"]


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.1.2.3", "0.0.0.0", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0"]
)
async def test_our_own_listener_is_never_reached(address):
    everything = [AllowedNetwork.parse("0.0.0.0/0"), AllowedNetwork.parse("::/0")]
    hosts = PrivateHosts(["moorage.corp"])
    guard = AddressGuard(everything, answering(address), hosts=hosts, own=OwnListener(8080))
    with pytest.raises(DeniedError, match="this service itself"):
        await guard.addresses("moorage.corp", 8080)
    assert await guard.addresses("moorage.corp", 8081) == [address]


async def test_another_machine_with_our_port_is_reached():
    guard = AddressGuard(resolver=answering("1.1.1.1"), own=OwnListener(8080))
    assert await guard.addresses("up.example", 8080) == ["1.1.1.1"]


async def test_our_public_url_is_never_reached():
    own = OwnListener(8080, ("moorage.corp", 443))
    guard = AddressGuard(resolver=answering("1.1.1.1"), own=own)
    with pytest.raises(DeniedError, match="this service itself"):
        await guard.addresses("moorage.corp", 443)
    assert await guard.addresses("moorage.corp", 8443) == ["1.1.1.1"]
