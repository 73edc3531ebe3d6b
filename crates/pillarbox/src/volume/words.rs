//! What is said of a spike: alerts in words.

use relay::incident::intake::CameIn;
use relay::incident::volume::{Count, Spike, Window};
use relay::sender::OnPause;

use super::Whose;
use crate::alert::{Alert, AlertRule, Severity};

/// One line: why a sender is paused.
pub fn short(spike: &Spike) -> String {
    format!("{} in {}, at most {} are usual at this hour", seen(spike), window(spike), spike.usual)
}

fn seen(spike: &Spike) -> String {
    match spike.count {
        Count::Recipients => format!("{} recipients", spike.seen),
        Count::NewRecipients => format!("{} recipients never written to before", spike.seen),
    }
}

fn window(spike: &Spike) -> &'static str {
    match spike.window {
        Window::Burst => "5 minutes",
        Window::Hour => "an hour",
    }
}

/// The alert. Mail to many strangers is what a stolen credential looks like.
pub fn alert(whose: &Whose, spike: &Spike, lately: &CameIn, paused: Option<OnPause>) -> Alert {
    let strangers = spike.count == Count::NewRecipients || lately.came.new * 2 > lately.came.recipients;
    let mut text = format!(
        "{} {} sent to {} in {}; at most {} are usual at this hour of the week, and up to {} would have passed. ",
        capital(whose.kind()),
        whose.name(),
        seen(spike),
        window(spike),
        spike.usual,
        spike.limit
    );
    if strangers {
        text.push_str("Most of them were never written to before: that is what a stolen credential looks like. ");
    }
    text.push_str(match paused {
        Some(OnPause::Hold) => "The sender is paused: its mail is held, and new mail is accepted and held too. ",
        Some(OnPause::Refuse) => "The sender is paused: its mail is held, and new mail is refused for the time being. ",
        None => "",
    });
    text.push_str(&next_steps(whose, paused));
    let list = |names: Vec<String>| names.into_iter().take(5).collect::<Vec<_>>().join(", ");
    let about = [
        (whose.kind().to_owned(), whose.name().to_owned()),
        ("recipients in the last minutes".to_owned(), lately.came.recipients.to_string()),
        ("of them never written to before".to_owned(), lately.came.new.to_string()),
        ("messages".to_owned(), lately.messages.to_string()),
        ("submitted from".to_owned(), list(lately.from.iter().map(|(one, n)| format!("{one} ({n})")).collect())),
        ("domains".to_owned(), list(lately.to.iter().map(|(one, n)| format!("{one} ({n})")).collect())),
    ];
    Alert {
        key: whose.key(),
        rule: AlertRule::VolumeSpike,
        severity: if strangers { Severity::Critical } else { Severity::Problem },
        title: format!("{} {} sends far more than it uses to: {}", capital(whose.kind()), whose.name(), short(spike)),
        text,
        about: about.into_iter().filter(|(_, value)| !value.is_empty()).collect(),
        avoid: Vec::new(),
        link: None,
    }
}

fn next_steps(whose: &Whose, paused: Option<OnPause>) -> String {
    let name = whose.name();
    match (whose, paused) {
        (Whose::Stream(_), _) => format!(
            "Look at the mail with `pillarbox queue ls --stream {name}`; `pillarbox stream pause {name}` stops it."
        ),
        (Whose::Sender(_), None) => format!(
            "Look at the mail with `pillarbox queue ls --sender {name}`. If it is not yours: `pillarbox sender pause {name}`, then a \
             new password or key, then `pillarbox queue cancel --sender {name}` for what is left of it."
        ),
        (Whose::Sender(_), Some(_)) => format!(
            "Look at the mail with `pillarbox queue ls --sender {name}`. If it is yours: `pillarbox sender resume {name} \
             --false-alarm`. If not: a new password or key, `pillarbox queue cancel --sender {name}`, then `pillarbox sender resume {name}`."
        ),
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay::incident::volume::Came;

    #[test]
    fn strangers_make_it_critical_and_the_words_say_what_to_do() {
        let spike =
            Spike { at_ms: 0, count: Count::Recipients, window: Window::Burst, seen: 900, usual: 12, limit: 60 };
        let lately = CameIn {
            came: Came { recipients: 900, new: 880 },
            messages: 900,
            from: vec![("203.0.113.9".into(), 900)],
            to: vec![("gmail.example".into(), 400)],
        };
        let whose = Whose::Sender("shop".into());
        let critical = alert(&whose, &spike, &lately, Some(OnPause::Refuse));
        assert_eq!((critical.severity, critical.key.as_str()), (Severity::Critical, "volume:sender:shop"));
        assert!(
            critical.text.contains("stolen credential") && critical.text.contains("is paused"),
            "{}",
            critical.text
        );
        assert!(critical.about.iter().any(|(_, value)| value == "203.0.113.9 (900)"));
        let known = CameIn { came: Came { recipients: 900, new: 3 }, ..lately };
        let problem = alert(&whose, &spike, &known, None);
        assert_eq!(problem.severity, Severity::Problem);
        assert!(problem.text.contains("pillarbox sender pause shop") && !problem.text.contains("stolen"));
    }
}
