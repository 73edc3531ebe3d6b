//! Which records are followed, where they are, and which of the answers belong to them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use net::lookup::{Data, Kind};
use proto::policy::dkim::key_name;
use proto::policy::dns::reverse_name;
use proto::policy::spf;
use serde::{Deserialize, Serialize};

/// One kind of record of a domain, or of an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum What {
    /// The name servers, as they themselves say.
    Ns,
    /// Where its mail goes.
    Mx,
    /// Who may send for it.
    Spf,
    /// The policy of another domain that the SPF record leads to, whoever keeps it.
    SpfOf(String),
    /// The key at a selector.
    Dkim(String),
    /// What receivers do with mail that fails both.
    Dmarc,
    /// The same of the organizational domain above it.
    DmarcOf(String),
    /// The policy that asks for encryption.
    MtaSts,
    /// Where reports about encryption go.
    TlsRpt,
    /// The reverse name; its "domain" is an address.
    Ptr,
}

impl What {
    /// Where the records are, and of which type. `domain`: an address for [`What::Ptr`]; `None` if it is none.
    pub fn question(&self, domain: &str) -> Option<(String, Kind)> {
        Some(match self {
            Self::Ns => (domain.to_owned(), Kind::Ns),
            Self::Mx => (domain.to_owned(), Kind::Mx),
            Self::Spf => (domain.to_owned(), Kind::Txt),
            Self::SpfOf(other) => (other.clone(), Kind::Txt),
            Self::Dkim(selector) => (key_name(selector, domain), Kind::Txt),
            Self::Dmarc => (format!("_dmarc.{domain}"), Kind::Txt),
            Self::DmarcOf(other) => (format!("_dmarc.{other}"), Kind::Txt),
            Self::MtaSts => (format!("_mta-sts.{domain}"), Kind::Txt),
            Self::TlsRpt => (format!("_smtp._tls.{domain}"), Kind::Txt),
            Self::Ptr => (reverse_name(domain.parse::<IpAddr>().ok()?), Kind::Ptr),
        })
    }

    /// Whether a record of the answer belongs to it: other texts at the same name come and go and mean nothing to mail.
    pub fn keeps(&self, data: &Data) -> bool {
        let begins = |start: &str| match data {
            Data::Txt(text) => text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes())),
            _ => false,
        };
        match self {
            Self::Ns => matches!(data, Data::Ns(_)),
            Self::Mx => matches!(data, Data::Mx { .. }),
            Self::Ptr => matches!(data, Data::Ptr(_)),
            Self::Spf | Self::SpfOf(_) => matches!(data, Data::Txt(text) if spf::is_record(text)),
            Self::Dkim(_) => matches!(data, Data::Txt(_)),
            Self::Dmarc | Self::DmarcOf(_) => begins("v=DMARC1"),
            Self::MtaSts => begins("v=STSv1"),
            Self::TlsRpt => begins("v=TLSRPTv1"),
        }
    }

    /// Whether mail is refused or lost when the record is nowhere any more; the others only protect or inform.
    pub fn is_vital(&self) -> bool {
        matches!(self, Self::Ns | Self::Mx | Self::Spf | Self::SpfOf(_) | Self::Dkim(_) | Self::Ptr)
    }

    /// In words: `the SPF record`.
    pub fn words(&self) -> String {
        match self {
            Self::Ns => "the name servers".into(),
            Self::Mx => "the MX records".into(),
            Self::Spf => "the SPF record".into(),
            Self::SpfOf(other) => format!("the SPF record of {other}, which it includes,"),
            Self::Dkim(selector) => format!("the DKIM key {selector}"),
            Self::Dmarc => "the DMARC record".into(),
            Self::DmarcOf(other) => format!("the DMARC record of {other}"),
            Self::MtaSts => "the MTA-STS record".into(),
            Self::TlsRpt => "the TLS-RPT record".into(),
            Self::Ptr => "the reverse name".into(),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ns => f.write_str("ns"),
            Self::Mx => f.write_str("mx"),
            Self::Spf => f.write_str("spf"),
            Self::SpfOf(other) => write!(f, "spf:{other}"),
            Self::Dkim(selector) => write!(f, "dkim:{selector}"),
            Self::Dmarc => f.write_str("dmarc"),
            Self::DmarcOf(other) => write!(f, "dmarc:{other}"),
            Self::MtaSts => f.write_str("mta-sts"),
            Self::TlsRpt => f.write_str("tls-rpt"),
            Self::Ptr => f.write_str("ptr"),
        }
    }
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match (text, text.split_once(':')) {
            ("ns", _) => Self::Ns,
            ("mx", _) => Self::Mx,
            ("spf", _) => Self::Spf,
            ("dmarc", _) => Self::Dmarc,
            ("mta-sts", _) => Self::MtaSts,
            ("tls-rpt", _) => Self::TlsRpt,
            ("ptr", _) => Self::Ptr,
            (_, Some(("spf", other))) => Self::SpfOf(other.to_owned()),
            (_, Some(("dkim", selector))) => Self::Dkim(selector.to_owned()),
            (_, Some(("dmarc", other))) => Self::DmarcOf(other.to_owned()),
            _ => return Err(format!("{text} is no kind of record")),
        })
    }
}

impl From<What> for String {
    fn from(what: What) -> Self {
        what.to_string()
    }
}

impl TryFrom<String> for What {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_place_in_the_dns_and_a_name_that_is_read_back() {
        for (what, domain, name) in [
            (What::Ns, "a.test", "a.test"),
            (What::Mx, "a.test", "a.test"),
            (What::Spf, "a.test", "a.test"),
            (What::SpfOf("b.test".into()), "a.test", "b.test"),
            (What::Dkim("s1".into()), "a.test", "s1._domainkey.a.test"),
            (What::Dmarc, "a.test", "_dmarc.a.test"),
            (What::DmarcOf("a.test".into()), "x.a.test", "_dmarc.a.test"),
            (What::MtaSts, "a.test", "_mta-sts.a.test"),
            (What::TlsRpt, "a.test", "_smtp._tls.a.test"),
            (What::Ptr, "192.0.2.9", "9.2.0.192.in-addr.arpa"),
        ] {
            assert_eq!(what.question(domain).unwrap().0, name);
            assert_eq!(what.to_string().parse(), Ok(what));
        }
        assert!(What::Ptr.question("a.test").is_none());
        assert!("spam".parse::<What>().is_err());
    }

    #[test]
    fn texts_that_are_no_policy_are_left_out() {
        let text = |text: &str| Data::Txt(text.as_bytes().to_vec());
        assert!(What::Spf.keeps(&text("v=spf1 -all")) && !What::Spf.keeps(&text("google-site-verification=x")));
        assert!(What::Dmarc.keeps(&text("v=dmarc1; p=none")) && !What::Dmarc.keeps(&text("v=spf1 -all")));
        assert!(What::Dkim("s".into()).keeps(&text("p=x")));
    }
}
