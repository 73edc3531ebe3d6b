//! Every kind of sign the probe can give, with its values. The words, and how bad each is, are in the rules.
//!
//! Stage in brackets. `mode` and `try_mode` are `starttls`, `implicit` or `none`; lists are separated by `, `.

/// All kinds. A test checks that each has a rule.
///
/// | kind | stage | values | thought of as |
/// |---|---|---|---|
/// | `host_probably_meant` | dns, tcp | host, meant | problem: given only when the host fails; the name is a slip of typing away from a provider's |
/// | `mx_used` | dns | domain, hosts, host | note: the name is a domain, and its mail hosts are probed |
/// | `resolver_differs` | dns | host, ours, other | warning: two resolvers give different addresses |
/// | `address_lookup_partial` | dns | host, family, reason | warning: the question for one family fails, the other is answered |
/// | `mx_host_fails` | tcp | host, how, works | warning: a mail host with better preference fails, a later one works |
/// | `address_fails` | tcp | host, peer, port, how, works | warning: one address fails, another works |
/// | `family_fails` | tcp | host, port, family, how, works | warning: all addresses of a family fail, the other family works |
/// | `family_not_here` | tcp | host, family, works | note: this machine has no way to that family; the other family works |
/// | `other_port_works` | tcp, banner, tls | host, port, mode, try_port, try_mode | note: the port asked for fails, this one works (the failure itself stays the verdict) |
/// | `no_port_answers` | tcp | host, port, ports | note: no other mail port of the host answers either |
/// | `network_blocks_port` | tcp | host, port, tried; network, how, instead, ask, form where our network is known | problem: hosts of others do not answer on this port either |
/// | `network_down` | tcp | host, port, tried; network as above | problem: hosts of others answer on no port at all |
/// | `wrong_tls_mode_implicit` | tls | host, port, mode, try_port, try_mode | problem: TLS from the first octet on a port that begins in the clear |
/// | `wrong_tls_mode_starttls` | banner | host, port, mode, try_port, try_mode | problem: plain SMTP on a port that wants TLS from the first octet |
/// | `tls_mode_found` | banner, tls | host, port, mode | note: the mode was not given and this one works |
/// | `tls_mode_unusual` | banner, tls | host, port, mode, usual | warning: the port works in another mode than its number stands for |
/// | `not_a_mail_server` | banner | host, port, service, text | problem: HTTP, POP3, IMAP, SSH, FTP, MySQL or LMTP answers |
/// | `banner_masked` | banner | text | warning: a device has starred out the greeting |
/// | `software_outdated` | banner | host, program, version, oldest | note: the greeting names a version that its makers no longer mend |
/// | `slow_banner` | banner | seconds, host | warning: the greeting took five seconds or more |
/// | `out_of_step` | ehlo | text | problem: the server speaks unasked, so that replies no longer belong to commands |
/// | `helo_only` | ehlo | host, code | warning: EHLO is refused, HELO works |
/// | `starttls_stripped` | ehlo, tls | host, port, keyword | problem: STARTTLS is crossed out on the way |
/// | `no_starttls` | tls | host, port | warning: no encryption is offered (and none was demanded) |
/// | `starttls_twice` | ehlo | host | note: STARTTLS is offered again under TLS |
/// | `capabilities_differ` | ehlo | lost, gained | note: other extensions after TLS than before |
/// | `certificate_ends_soon` | tls | days, not_after, host | warning: the certificate ends within days |
/// | `certificate_intercepted` | tls | host, issuer, device | problem: the certificate is of a known inspecting device or program |
/// | `insecure_check` | tls | host, problem | warning: the certificate was not required to be valid; problem is empty if it is valid |
/// | `auth_in_clear_offered` | auth | mechanisms, host | warning: passwords are asked for without encryption |
/// | `auth_only_before_tls` | auth | mechanisms, host | problem: signing in is offered before TLS and not after it |
/// | `auth_only_after_tls` | auth | host, port | problem: signing in is wanted without TLS, and STARTTLS is offered |
/// | `auth_not_offered` | auth | host, port | problem: no signing in is offered at all |
/// | `oauth_challenge` | auth | status, schemes, scope | problem: what the server says about a refused token |
/// | `open_relay` | recipient | host, forms | problem: asks of strangers for strangers are accepted |
/// | `relay_closed` | recipient | host, count | note: every form of relaying was refused |
/// | `relay_test_cut` | recipient | host, done, count | note: the server ended the relay test early |
pub const SIGNS: &[&str] = &[
    "host_probably_meant",
    "mx_used",
    "resolver_differs",
    "address_lookup_partial",
    "mx_host_fails",
    "address_fails",
    "family_fails",
    "family_not_here",
    "other_port_works",
    "no_port_answers",
    "network_blocks_port",
    "network_down",
    "wrong_tls_mode_implicit",
    "wrong_tls_mode_starttls",
    "tls_mode_found",
    "tls_mode_unusual",
    "not_a_mail_server",
    "banner_masked",
    "software_outdated",
    "slow_banner",
    "out_of_step",
    "helo_only",
    "starttls_stripped",
    "no_starttls",
    "starttls_twice",
    "capabilities_differ",
    "certificate_ends_soon",
    "certificate_intercepted",
    "insecure_check",
    "auth_in_clear_offered",
    "auth_only_before_tls",
    "auth_only_after_tls",
    "auth_not_offered",
    "oauth_challenge",
    "open_relay",
    "relay_closed",
    "relay_test_cut",
];
