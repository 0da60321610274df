"""Modules from git, through the front: servers over HTTP and ssh, good ones and hostile ones.

Each check below was taken out of the product, alone, and the test named beside it failed, by what
it asserts: no row rests on a test that only ran out of time. Tests without a folder are here.

    F48   gitplaces.of: a refusal is raised, not passed over     test_hostile, F48_F87
    F53   address.Credential.headers_for: its own origin alone   test_hostile, F53
    F54   gitssh._address: the guard's address is used           test_ssh, F54
          address.addresses: the guard refuses                   test_ssh, F54
    F81   goimport: vcs, several tags, sub-directory, page size  test_vanity, F81
          giturl.below_of: scheme, host, query, elements         test_vanity, F81
          gitplaces: the page of the root says the same          test_vanity, F81
    F82   gitrefs: is_ref, gather                                core/test_gitprotocol, F82
          gitmirror.files: check_oid                             upstream/test_gitmirror, F82
    F83   giturl.parse_git_url: whole match, user, path          core/test_giturl, F83
          gitssh._start: the path has no quotes                  test_ssh, F83
    F84   gitprogram.environment: no user's configuration        upstream/test_gitmirror, F84
          gitmirror.prepare: attributes                          gitparity/test_parity, F84
          gitzip.chosen: links and submodules                    gitparity/test_parity, F84
    F85   gitpins: check, alarm_moved                            test_https, F85
          gitmodule._check_pseudo: time, base                    core/test_gitmodule, F85
    F86   git._post: bytes of refs                               test_hostile, too_many_refs
          git.fetch: the route's deadline                        test_hostile, stalled[fetch]
          gitmirrors._fetch: bytes of a pack                     test_hostile, F86[too-large]
          gitmirror.take_in: leftovers                           test_hostile, F86
          gitmirror.take_in: --max-input-size                    upstream/test_gitmirror, too_large
          gitprogram: memory; time of a run; runs given up       upstream/test_gitmirror, F86
          gitprotocol: cut packs and lines                       test_hostile, F86[cut]
    F87   gitssh: pinned host keys, argv and environment, 403    test_ssh, F87
          githubapp._ask: a 404 is no absence                    test_githubapp, F87
    F102  gitprogram.finish: one printable line                  upstream/test_gitmirror, F102

Two checks refuse alone what the other lets pass: F53, a redirect to another origin (the list of
origins, and the guard of addresses); F69, names that differ in their case (`gitzip` and
`modzip`); F81, a tag of another prefix (the filter, and the page of the root).
"""
