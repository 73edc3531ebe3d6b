//! The same check with the tools that are everywhere: command lines to copy. Secrets are in none of them.

use std::fmt::Write as _;

use serde::Serialize;

use super::view::WayView;

/// What the commands are about.
pub struct Wanted<'a> {
    /// As probed.
    pub target: &'a WayView,
    /// What was named, if that was a domain.
    pub domain: Option<String>,
    /// User name.
    pub user: Option<String>,
    /// Mechanism, if one was demanded.
    pub mechanism: Option<&'a str>,
    /// Sender.
    pub from: Option<&'a str>,
    /// Recipients.
    pub to: &'a [String],
    /// Name in EHLO.
    pub helo: &'a str,
    /// A message is sent.
    pub send: bool,
    /// IPv4 only.
    pub four: bool,
    /// IPv6 only.
    pub six: bool,
    /// Seconds.
    pub timeout: u32,
}

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Equal {
    /// What it shows.
    pub shows: &'static str,
    /// For which shell: `sh` or `powershell`.
    pub shell: &'static str,
    /// The line.
    pub command: String,
}

/// All that do what the check does.
pub fn all(wanted: &Wanted<'_>) -> Vec<Equal> {
    let WayView { host, port, tls } = wanted.target;
    let name = quoted(host);
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let pair = quoted(&format!("{bracketed}:{port}"));
    let is_name = host.parse::<std::net::IpAddr>().is_err();
    let mut all = Vec::new();
    let mut sh = |shows: &'static str, command: String| all.push(Equal { shows, shell: "sh", command });
    if let Some(domain) = wanted.domain.as_deref().filter(|domain| !domain.eq_ignore_ascii_case(host)) {
        sh("mail hosts of the domain", format!("dig +short MX {}", quoted(domain)));
        sh("mail hosts of the domain", format!("nslookup -type=mx {}", quoted(domain)));
    }
    if is_name {
        for kind in [(!wanted.six).then_some("A"), (!wanted.four).then_some("AAAA")].into_iter().flatten() {
            sh("addresses", format!("dig +short {kind} {name}"));
        }
        sh("addresses", format!("nslookup {name}"));
    }
    let family = if wanted.four {
        "-4 "
    } else if wanted.six {
        "-6 "
    } else {
        ""
    };
    sh("whether the port is open", format!("nc {family}-vz -w {} {name} {port}", wanted.timeout));
    sh("greeting", format!("telnet {name} {port}"));
    let server_name = if is_name { format!(" -servername {name} -verify_hostname {name}") } else { String::new() };
    match tls.as_str() {
        "starttls" => sh(
            "certificate and encrypted conversation",
            format!("openssl s_client {family}-connect {pair} -starttls smtp -crlf{server_name} -showcerts"),
        ),
        "implicit" => sh(
            "certificate and encrypted conversation",
            format!("openssl s_client {family}-connect {pair} -crlf{server_name} -showcerts"),
        ),
        _ => {}
    }
    sh("the whole conversation (asks for the password)", swaks(wanted));
    let single = format!("'{}'", host.replace('\'', "''"));
    all.push(Equal {
        shows: "whether the port is open, on Windows",
        shell: "powershell",
        command: format!("Test-NetConnection -ComputerName {single} -Port {port}"),
    });
    if is_name {
        let command = format!("Resolve-DnsName {single}");
        all.push(Equal { shows: "addresses, on Windows", shell: "powershell", command });
    }
    all
}

fn swaks(wanted: &Wanted<'_>) -> String {
    let WayView { host, port, tls } = wanted.target;
    let mut line = format!("swaks --server {} --port {port} --ehlo {}", quoted(host), quoted(wanted.helo));
    match tls.as_str() {
        "starttls" => line.push_str(" --tls"),
        "implicit" => line.push_str(" --tls-on-connect"),
        _ => {}
    }
    if wanted.four {
        line.push_str(" -4");
    } else if wanted.six {
        line.push_str(" -6");
    }
    if let Some(user) = &wanted.user {
        let mechanism = wanted.mechanism.map(|name| format!(" {}", quoted(name))).unwrap_or_default();
        let _ = write!(line, " --auth{mechanism} --auth-user {}", quoted(user));
    }
    if let Some(from) = wanted.from {
        let _ = write!(line, " --from {}", quoted(if from.is_empty() { "<>" } else { from }));
    }
    if !wanted.to.is_empty() {
        let _ = write!(line, " --to {}", quoted(&wanted.to.join(",")));
    }
    let until = match (wanted.send, wanted.to.is_empty(), &wanted.user) {
        (true, ..) => "",
        (false, false, _) => " --quit-after RCPT",
        (false, true, Some(_)) => " --quit-after AUTH",
        (false, true, None) if tls == "none" => " --quit-after EHLO",
        (false, true, None) => " --quit-after TLS",
    };
    let _ = write!(line, "{until} --timeout {}", wanted.timeout);
    line
}

/// One word for a POSIX shell, whatever is in it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | ':' | '/' | '+' | ',' | '=');
    match !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(way: (&str, u16, &str), user: Option<&str>, to: &[String]) -> Vec<String> {
        let target = WayView { host: way.0.into(), port: way.1, tls: way.2.into() };
        let wanted = Wanted {
            target: &target,
            domain: None,
            user: user.map(str::to_owned),
            mechanism: Some("LOGIN"),
            from: Some(""),
            to,
            helo: "here.test",
            send: false,
            four: false,
            six: false,
            timeout: 10,
        };
        all(&wanted).into_iter().map(|one| one.command).collect()
    }

    #[test]
    fn the_tools_everyone_has_are_given_with_their_options() {
        let lines = lines(("mail.example.com", 587, "starttls"), Some("ann@example.com"), &["bob@example.net".into()]);
        for expected in [
            "dig +short AAAA mail.example.com",
            "nc -vz -w 10 mail.example.com 587",
            "openssl s_client -connect mail.example.com:587 -starttls smtp -crlf -servername mail.example.com -verify_hostname mail.example.com -showcerts",
            "swaks --server mail.example.com --port 587 --ehlo here.test --tls --auth LOGIN --auth-user ann@example.com --from '<>' --to bob@example.net --quit-after RCPT --timeout 10",
            "Test-NetConnection -ComputerName 'mail.example.com' -Port 587",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected}\n{}", lines.join("\n"));
        }
    }

    #[test]
    fn an_address_needs_no_names_and_implicit_tls_no_starttls() {
        let lines = lines(("2001:db8::1", 465, "implicit"), None, &[]);
        assert!(
            !lines
                .iter()
                .any(|line| line.starts_with("dig") || line.contains("-servername") || line.contains("-starttls"))
        );
        assert!(lines.iter().any(|line| line.starts_with("openssl s_client -connect '[2001:db8::1]:465' -crlf")));
    }

    #[test]
    fn nothing_in_a_name_reaches_the_shell() {
        for evil in ["$(reboot)", "a'; reboot #", "`x`", "-oProxyCommand=x", "a b", "a\nb", ""] {
            let quoted = quoted(evil);
            assert!(quoted.starts_with('\'') && quoted.ends_with('\''), "{quoted}");
            assert_eq!(quoted[1..quoted.len() - 1].replace(r"'\''", ""), evil.replace('\'', ""));
        }
    }
}
