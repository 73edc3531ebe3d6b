//! Whether a greeting names a program that its makers no longer mend. Pure.
//!
//! Distributions mend old versions without a new number, so this is a note and never a verdict.

/// A program, the word before its version in a greeting, and the oldest version that is no cause for a word: Exim 4.94.2 (May
/// 2021) closed holes that were used from afar, Sendmail 8.18 (January 2024) closed SMTP smuggling, and IIS below 10 belongs to
/// releases of Windows Server whose support ended by October 2023.
const OLDEST: [(&str, &str, &[u32]); 3] = [
    ("Exim", "Exim", &[4, 94, 2]),
    ("Sendmail", "Sendmail", &[8, 18]),
    ("Microsoft IIS SMTP", "Microsoft ESMTP MAIL Service, Version:", &[10]),
];

/// A program that is too old.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outdated {
    pub program: &'static str,
    pub version: String,
    pub oldest: String,
}

/// What a greeting tells of the program behind it, if that is too old.
pub(super) fn outdated(greeting: &str) -> Option<Outdated> {
    OLDEST.iter().find_map(|(program, word, oldest)| {
        let after = greeting.split_once(word)?.1.trim_start();
        let end = after.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(after.len()).min(24);
        let version = after[..end].trim_end_matches('.');
        let numbers: Vec<u32> = version.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        let dotted = || oldest.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
        (numbers.as_slice() < *oldest).then(|| Outdated { program, version: version.to_owned(), oldest: dotted() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_programs_are_told_from_those_still_mended_and_from_silence() {
        let version = |greeting: &str| outdated(greeting).map(|old| format!("{} {}", old.program, old.version));
        assert_eq!(version("mx.test ESMTP Exim 4.92 Sat, 21 Nov 2026 10:00:00 +0000").as_deref(), Some("Exim 4.92"));
        assert_eq!(
            version("mx.test ESMTP Sendmail 8.14.4/8.14.4; Sat, 21 Nov 2026").as_deref(),
            Some("Sendmail 8.14.4")
        );
        assert_eq!(
            version("mx.test Microsoft ESMTP MAIL Service, Version: 8.5.9600.16384 ready at Sat").as_deref(),
            Some("Microsoft IIS SMTP 8.5.9600.16384")
        );
        for good in [
            "mx.test ESMTP Exim 4.96 Sat",
            "mx.test ESMTP Exim 4.94.2 Sat",
            "mx.test ESMTP Exim 5.0 Sat",
            "mx.test ESMTP Sendmail 8.18.1/8.18.1; Sat",
            "mx.test Microsoft ESMTP MAIL Service, Version: 10.0.17763.1697 ready",
            "mx.test Microsoft ESMTP MAIL Service ready at Sat",
            "mx.test ESMTP Postfix (Debian/GNU)",
            "mx.test ESMTP Exim",
            "mx.test ESMTP Exim 4..9.99999999999999999999",
            "Sendmail",
            "",
        ] {
            assert_eq!(outdated(good), None, "{good}");
        }
    }
}
