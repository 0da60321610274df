"""What lies outside: HTTP servers and the gpg program.

Transport errors end here and leave as errors of `core.errors`; nothing here touches the database.

    http        the HTTP client: calls, attempts, redirects
    wire        its connections, guarded
    stream      the bytes of a connection
    address     URLs, and the addresses that upstreams may have
    attempt     the failure of one attempt
    status      what a status means
    gunzip      bodies that come encoded
    reason      the text of a refusal, cleaned
    body        the limits of a body: size and rate
    retry       the loop of attempts, and the waits between them
    retryafter  the wait that an upstream asks for
    budget      how many retries an upstream gets in all
    breaker     when an upstream is left alone
    limits      seconds, rate and connections
    godev, goproxy, sumdb              the kinds of upstreams
    gpg, gpg_process, gpg_home, gpg_ring   signatures; the program, its folder, its keys
"""
