//! Presets as they are shown, and a route's settings filled from one.

use explain::{Preset, PresetTls, RuleBase, SignIn, Speaks};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A region with its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionOut {
    /// Short name.
    pub id: String,
    /// Host.
    pub host: String,
}

/// A port with its mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayOut {
    /// Port.
    pub port: u16,
    /// TLS.
    pub tls: PresetTls,
}

/// A rule that is likely when it does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongOut {
    /// Its id.
    pub rule: String,
    /// Its title.
    pub title: String,
}

/// Limits; a route gets those that it can keep.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsOut {
    /// As the provider words them.
    pub words: String,
    /// Connections at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Messages on one connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_connection: Option<u32>,
    /// Recipients of one transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients_per_transaction: Option<u32>,
    /// Messages a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Messages a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// Messages an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u32>,
    /// Messages in 24 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u32>,
    /// Recipients in 24 hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients_per_day: Option<u32>,
}

/// A preset with what is known of its provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresetOut {
    /// Short name.
    pub id: String,
    /// Other names.
    pub names: Vec<String>,
    /// Name for people.
    pub name: String,
    /// Provider or program, as rules name it.
    pub provider: String,
    /// The kind of route it makes: `smarthost` or `graph`.
    #[serde(default)]
    pub kind: String,
    /// Host; missing where everybody has their own, or the region decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// End that a host of one's own has there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_like: Option<String>,
    /// Regions with their hosts.
    pub regions: Vec<RegionOut>,
    /// Port of the preset.
    pub port: u16,
    /// TLS of the preset.
    pub tls: PresetTls,
    /// All ports that the provider offers.
    pub ways: Vec<WayOut>,
    /// How one signs in.
    pub sign_in: SignIn,
    /// The only SASL mechanism that works, where there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<String>,
    /// User name and password are the same token.
    #[serde(default)]
    pub same: bool,
    /// EHLO has to be a name in the user's own domain.
    #[serde(default)]
    pub own_helo: bool,
    /// SASL mechanisms, the best first.
    pub mechanisms: Vec<String>,
    /// The user name in words.
    pub username: String,
    /// The user name itself, where it is the same for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_username: Option<String>,
    /// The password in words.
    pub password: String,
    /// Limits.
    pub limits: LimitsOut,
    /// What has to be verified first.
    pub verify: Vec<String>,
    /// Term for the SPF record of the From domain.
    pub spf: String,
    /// Usual DKIM selectors.
    pub dkim_selectors: Vec<String>,
    /// DKIM records in words.
    pub dkim_record: String,
    /// Records of the return path in words.
    pub return_path: String,
    /// What else one should know.
    pub help: String,
    /// What it looks like when it is wrong.
    pub wrong: Vec<WrongOut>,
    /// Pages.
    pub portals: Vec<String>,
    /// Date of the last check.
    pub checked: String,
}

/// A preset as it is shown. `None` only for a preset without its provider, which the tests exclude.
pub fn shown(preset: &Preset, base: &RuleBase) -> Option<PresetOut> {
    let provider = preset.provider(base)?;
    let region =
        |region: &explain::Region| Some(RegionOut { id: region.id.clone(), host: preset.host_in(Some(&region.id))? });
    let wrong = |id: &String| {
        let rule = base.rule(id)?;
        // Titles may have blanks for values of a case.
        let own = Some(rule.title.clone()).filter(|title| !title.is_empty() && !title.contains('{'));
        let title = own.or_else(|| base.reason(rule.reason).map(|reason| reason.title.clone()))?;
        Some(WrongOut { rule: id.clone(), title })
    };
    Some(PresetOut {
        id: preset.id.clone(),
        names: preset.names.clone(),
        name: preset.name.clone(),
        provider: preset.provider.clone(),
        kind: match preset.kind {
            Speaks::Smtp => "smarthost".into(),
            Speaks::Graph => "graph".into(),
        },
        host: preset.host_in(None),
        host_like: preset.host_like.clone(),
        regions: preset.regions.iter().filter_map(region).collect(),
        port: preset.port,
        tls: preset.tls,
        ways: preset.ways(base).into_iter().map(|(port, tls)| WayOut { port, tls }).collect(),
        sign_in: preset.sign_in,
        mechanism: preset.mechanism.clone(),
        same: preset.same,
        own_helo: preset.own_helo,
        mechanisms: preset.mechanisms(provider).to_vec(),
        username: preset.username(provider).to_owned(),
        fixed_username: preset.user.clone(),
        password: preset.password(provider).to_owned(),
        limits: LimitsOut {
            words: preset.limits(provider).to_owned(),
            connections: preset.connections,
            messages_per_connection: preset.messages_per_connection,
            recipients_per_transaction: preset.recipients_per_transaction,
            per_second: preset.per_second,
            per_minute: preset.per_minute,
            per_hour: preset.per_hour,
            per_day: preset.per_day,
            recipients_per_day: preset.recipients_per_day,
        },
        verify: preset.verify.clone(),
        spf: provider.spf.clone(),
        dkim_selectors: provider.dkim_selectors.clone(),
        dkim_record: provider.dkim_record.clone(),
        return_path: provider.return_path.clone(),
        help: preset.help.clone(),
        wrong: preset.wrong.iter().filter_map(wrong).collect(),
        portals: provider.portals.clone(),
        checked: preset.checked.clone(),
    })
}

/// Fills in what the preset knows and nobody has said otherwise.
pub fn fill(preset: &Preset, host: &str, port: Option<u16>, base: &RuleBase, body: &mut Map<String, Value>) {
    let ways = preset.ways(base);
    let tls = port.and_then(|port| ways.iter().find(|(known, _)| *known == port)).map_or(preset.tls, |(_, tls)| *tls);
    let tls = match tls {
        PresetTls::Starttls => "required",
        PresetTls::Implicit => "implicit",
    };
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.entry(name).or_insert(value);
        }
    };
    match preset.kind {
        Speaks::Smtp => {
            put("kind", Some("smarthost".into()));
            put("host", Some(host.into()));
            put("port", Some(port.unwrap_or(preset.port).into()));
            put("tls", Some(tls.into()));
        }
        // The host is that of the tenant's cloud.
        Speaks::Graph => {
            put("kind", Some("graph".into()));
            put("port", port.map(Into::into));
        }
    }
    put("username", preset.user.clone().map(Into::into));
    put("connections", preset.connections.map(Into::into));
    put("messages_per_connection", preset.messages_per_connection.map(Into::into));
    put("recipients_per_transaction", preset.recipients_per_transaction.map(Into::into));
    fill_rates(preset, body);
    if body.contains_key("username") {
        body.entry("mechanism").or_insert_with(|| preset.mechanism.clone().into());
        if body.get("mechanism").is_some_and(Value::is_null) {
            body.remove("mechanism");
        }
    }
}

/// Each limit by itself: one that was said leaves the others of the preset in place.
fn fill_rates(preset: &Preset, body: &mut Map<String, Value>) {
    let known = [
        ("per_second", preset.per_second),
        ("per_minute", preset.per_minute),
        ("per_hour", preset.per_hour),
        ("per_day", preset.per_day),
        ("recipients_per_day", preset.recipients_per_day),
    ];
    let mut known = known.into_iter().filter_map(|(name, limit)| Some((name, limit?))).peekable();
    if known.peek().is_none() {
        return;
    }
    let rates = body.entry("rates").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(rates) = rates {
        for (name, limit) in known {
            rates.entry(name).or_insert_with(|| limit.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_makes_a_route_without_mistakes() {
        let base = RuleBase::builtin();
        for preset in explain::presets() {
            let out = shown(preset, base).unwrap();
            assert_eq!(out.wrong.len(), preset.wrong.len(), "{}", preset.id);
            let region = preset.regions.first().map(|region| region.id.as_str());
            let host = preset.host_in(region).unwrap_or_else(|| "mail.example.net".into());
            let mut body = Map::new();
            if preset.sign_in != SignIn::None {
                body.insert("username".into(), "ann@example.net".into());
            }
            fill(preset, &host, None, base, &mut body);
            if preset.kind == Speaks::Graph {
                let oauth = serde_json::json!({"provider": "microsoft", "grant": "refresh_token", "tenant": "t.test", "client_id": "app"});
                body.insert("oauth".into(), oauth);
            }
            let record: relay::route::RouteRecord = serde_json::from_value(Value::Object(body)).unwrap();
            let mut secrets = relay::secrets::Secrets::default();
            if preset.sign_in != SignIn::None {
                secrets.password = Some("secret".into());
            }
            assert_eq!(record.problems(&secrets), [""; 0], "{}", preset.id);
        }
    }

    #[test]
    fn what_somebody_said_stays_and_a_port_brings_its_mode() {
        let base = RuleBase::builtin();
        let sendgrid = explain::preset("sendgrid").unwrap();
        let mut body = Map::from_iter([("recipients_per_transaction".to_owned(), Value::from(7))]);
        fill(sendgrid, "smtp.sendgrid.net", Some(465), base, &mut body);
        let expected = serde_json::json!({
            "kind": "smarthost", "host": "smtp.sendgrid.net", "port": 465, "tls": "implicit", "username": "apikey",
            "messages_per_connection": 100, "recipients_per_transaction": 7,
        });
        assert_eq!(Value::Object(body), expected);

        let microsoft = explain::preset("m365").unwrap();
        let mut body = Map::from_iter([("rates".to_owned(), serde_json::json!({ "per_minute": 10 }))]);
        fill(microsoft, "smtp.office365.com", None, base, &mut body);
        assert_eq!(body["rates"], serde_json::json!({ "per_minute": 10, "recipients_per_day": 10000 }));
    }
}
