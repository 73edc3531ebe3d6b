//! The settings a server was reached with, beside what its provider documents. Pure.

use explain::{Preset, PresetTls, RuleBase, SignIn, preset_of_host};
use serde::{Deserialize, Serialize};

use super::view::View;

/// What a provider documents, beside what was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentedOut {
    /// The preset's short name.
    pub preset: String,
    /// The provider's name for people.
    pub provider: String,
    /// When the documents were read last.
    pub checked: String,
    /// Pages of the provider.
    pub portals: Vec<String>,
    /// Setting by setting.
    pub settings: Vec<SettingOut>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingOut {
    /// Its name for people.
    pub name: String,
    /// What was used.
    pub used: String,
    /// What is documented.
    pub documented: String,
    /// They agree.
    pub agrees: bool,
}

fn tls_words(tls: PresetTls) -> (&'static str, &'static str) {
    match tls {
        PresetTls::Starttls => ("starttls", "STARTTLS"),
        PresetTls::Implicit => ("implicit", "implicit TLS"),
    }
}

fn used_tls(word: &str) -> &'static str {
    match word {
        "starttls" => "STARTTLS",
        "implicit" => "implicit TLS",
        _ => "no TLS",
    }
}

/// Compares; `None`: the host is of no provider that is known. `user` is who signed in, if anybody did.
pub fn compare(view: &View, user: Option<&str>, mechanism: Option<&str>, rules: &RuleBase) -> Option<DocumentedOut> {
    let preset = preset_of_host(&view.target.host)?;
    let provider = preset.provider(rules)?;
    let ways = preset.ways(rules);
    let line = |name: &str, used: String, documented: String, agrees: bool| SettingOut {
        name: name.to_owned(),
        used,
        documented,
        agrees,
    };
    let here = ways.iter().find(|(port, _)| *port == view.target.port).map(|(_, tls)| *tls);
    let list = |all: Vec<String>| all.join(", ");
    let ports = list(ways.iter().map(|(port, _)| port.to_string()).collect());
    let modes = match here {
        Some(tls) => format!("{} on port {}", tls_words(tls).1, view.target.port),
        None => list(ways.iter().map(|(port, tls)| format!("{} on port {port}", tls_words(*tls).1)).collect()),
    };
    let tls_agrees = here.map_or_else(
        || ways.iter().any(|(_, tls)| tls_words(*tls).0 == view.target.tls),
        |tls| tls_words(tls).0 == view.target.tls,
    );
    let mut settings = vec![
        line("Host", view.target.host.clone(), hosts(preset), true),
        line("Port", view.target.port.to_string(), ports, here.is_some()),
        line("Encryption", used_tls(&view.target.tls).to_owned(), modes, tls_agrees),
        sign_in(preset, user),
    ];
    let known = preset.mechanisms(provider);
    if let Some(mechanism) = mechanism.filter(|_| !known.is_empty()) {
        let agrees = known.iter().any(|known| known.eq_ignore_ascii_case(mechanism));
        settings.push(line("Mechanism", mechanism.to_owned(), known.join(", "), agrees));
    }
    Some(DocumentedOut {
        preset: preset.id.clone(),
        provider: preset.name.clone(),
        checked: preset.checked.clone(),
        portals: provider.portals.clone(),
        settings,
    })
}

fn hosts(preset: &Preset) -> String {
    let regional: Vec<String> =
        preset.regions.iter().filter_map(|region| preset.host_in(Some(&region.id))).take(8).collect();
    match (preset.host_in(None), regional.is_empty()) {
        (Some(host), true) => host,
        (_, false) => regional.join(", "),
        (None, true) => preset.host_like.as_ref().map_or_else(|| "a host of your own".into(), |end| format!("*.{end}")),
    }
}

fn sign_in(preset: &Preset, user: Option<&str>) -> SettingOut {
    let (documented, agrees) = match preset.sign_in {
        SignIn::None => ("nobody signs in", user.is_none()),
        SignIn::Optional => ("with or without signing in", true),
        SignIn::Password => ("user name and password", user.is_some()),
        SignIn::Oauth => ("access token (OAuth)", user.is_some()),
    };
    let documented = match &preset.user {
        Some(fixed) => format!("{documented}; the user name is {fixed}"),
        None => documented.to_owned(),
    };
    let fixed = preset.user.as_deref().is_none_or(|fixed| user == Some(fixed));
    let used = user.map_or_else(|| "nobody signed in".to_owned(), |user| format!("as {user}"));
    SettingOut { name: "Sign-in".into(), used, documented, agrees: agrees && fixed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn compared(host: &str, port: u16, tls: &str, user: Option<&str>) -> Option<Vec<(String, bool)>> {
        let report = json!({
            "took_us": 1, "waited_us": 1, "target": { "host": host, "port": port, "tls": tls }, "healthy": true,
            "result": "Success", "reason": "accepted", "stages": [], "findings": [], "insecure": false, "transcripts": [],
        });
        let found = compare(&View::of(&report).unwrap(), user, None, RuleBase::builtin())?;
        Some(found.settings.into_iter().map(|one| (one.name, one.agrees)).collect())
    }

    #[test]
    fn what_a_provider_does_not_offer_is_marked() {
        let wrong = |all: Option<Vec<(String, bool)>>| {
            all.unwrap().into_iter().filter(|(_, agrees)| !agrees).map(|(name, _)| name).collect::<Vec<_>>()
        };
        let user = Some("ann@example.net");
        assert_eq!(wrong(compared("smtp.office365.com", 587, "starttls", user)), [""; 0]);
        assert_eq!(wrong(compared("smtp.office365.com", 465, "implicit", user)), ["Port", "Encryption"]);
        assert_eq!(wrong(compared("smtp.sendgrid.net", 465, "starttls", Some("apikey"))), ["Encryption"]);
        assert_eq!(wrong(compared("smtp.sendgrid.net", 587, "starttls", user)), ["Sign-in"]);
        assert_eq!(compared("mail.example.net", 587, "starttls", None), None);
    }
}
