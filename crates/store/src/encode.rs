//! Compact JSON for the columns that need it: short names, nothing for what is absent.
//!
//! The nouns' own serde forms are for people and APIs; these are for the disk and may never change their meaning.

use std::sync::Arc;

use proto::smtp::reply::Reply;
use proto::transcript::{Failure, Stage, Transcript};
use proto::{Address, BodyType, DeliveryNotify, MailParameters, RcptParameters, ReturnContent, ReversePath};
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::model::{Attempt, Cause, EventDetail, MessageDetails, Operation, Origin, ReportDetail, RowRef, Severity};

fn defect(error: impl std::fmt::Display) -> StoreError {
    StoreError::Internal(format!("a stored value cannot be read: {error}"))
}

fn to_text<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Internal(error.to_string()))
}

fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Mail {
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<BodyType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    u: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    r: Option<ReturnContent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    t: bool,
    #[serde(skip_serializing_if = "is_false")]
    o: bool,
}

/// `None` for parameters without any value.
pub(crate) fn mail_parameters(parameters: &MailParameters) -> Result<Option<String>, StoreError> {
    if *parameters == MailParameters::default() {
        return Ok(None);
    }
    let body = (parameters.body != BodyType::default()).then_some(parameters.body);
    to_text(&Mail {
        b: body,
        s: parameters.size,
        u: parameters.smtputf8,
        r: parameters.ret,
        e: parameters.envid.clone(),
        a: parameters.auth.clone(),
        t: parameters.require_tls,
        o: parameters.tls_optional,
    })
    .map(Some)
}

pub(crate) fn read_mail_parameters(text: Option<&str>) -> Result<MailParameters, StoreError> {
    let Some(text) = text else { return Ok(MailParameters::default()) };
    let mail: Mail = serde_json::from_str(text).map_err(defect)?;
    Ok(MailParameters {
        body: mail.b.unwrap_or_default(),
        size: mail.s,
        smtputf8: mail.u,
        ret: mail.r,
        envid: mail.e,
        auth: mail.a,
        require_tls: mail.t,
        tls_optional: mail.o,
    })
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Rcpt {
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<DeliveryNotify>,
    #[serde(skip_serializing_if = "Option::is_none")]
    o: Option<String>,
}

/// `None` for parameters without any value.
pub(crate) fn rcpt_parameters(parameters: &RcptParameters) -> Result<Option<String>, StoreError> {
    if parameters.notify.is_none() && parameters.orcpt.is_none() {
        return Ok(None);
    }
    to_text(&Rcpt { n: parameters.notify, o: parameters.orcpt.clone() }).map(Some)
}

pub(crate) fn read_rcpt_parameters(text: Option<&str>) -> Result<RcptParameters, StoreError> {
    let Some(text) = text else { return Ok(RcptParameters::default()) };
    let rcpt: Rcpt = serde_json::from_str(text).map_err(defect)?;
    Ok(RcptParameters { notify: rcpt.n, orcpt: rcpt.o })
}

#[derive(Serialize)]
struct DetailsOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a Origin>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a serde_json::Map<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<RowRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    test: bool,
    #[serde(skip_serializing_if = "is_false")]
    deadline: bool,
}

/// `None` for details without any value. Read back by the noun's own form, which has a default for what is absent.
pub(crate) fn details(details: &MessageDetails) -> Result<Option<String>, StoreError> {
    if *details == MessageDetails::default() {
        return Ok(None);
    }
    to_text(&DetailsOut {
        subject: details.subject.as_deref(),
        from: details.from.as_deref(),
        message_id: details.message_id.as_deref(),
        origin: details.origin.as_ref(),
        tags: &details.tags,
        metadata: (!details.metadata.is_empty()).then_some(&details.metadata),
        row: details.row,
        trace: details.trace.as_deref(),
        test: details.test,
        deadline: details.deadline,
    })
    .map(Some)
}

pub(crate) fn read_details(text: Option<&str>) -> Result<Arc<MessageDetails>, StoreError> {
    match text {
        None => Ok(Arc::default()),
        Some(text) => serde_json::from_str(text).map(Arc::new).map_err(defect),
    }
}

#[derive(Serialize)]
struct AttemptOut<'a> {
    r: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t: Option<&'a str>,
    s: i64,
    k: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    g: Option<Stage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<&'a Reply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<&'a Transcript>,
}

#[derive(Deserialize)]
struct AttemptIn {
    r: Arc<str>,
    p: Option<String>,
    t: Option<String>,
    s: i64,
    k: u32,
    g: Option<Stage>,
    y: Option<Reply>,
    x: Option<Transcript>,
}

pub(crate) fn attempt(attempt: &Attempt) -> Result<String, StoreError> {
    to_text(&AttemptOut {
        r: &attempt.route,
        p: attempt.peer.as_deref(),
        t: attempt.tls.as_deref(),
        s: attempt.started_ms,
        k: attempt.took_ms,
        g: attempt.stage,
        y: attempt.reply.as_ref(),
        x: attempt.transcript.as_ref(),
    })
}

pub(crate) fn read_attempt(text: &str) -> Result<Attempt, StoreError> {
    let found: AttemptIn = serde_json::from_str(text).map_err(defect)?;
    Ok(Attempt {
        route: found.r,
        peer: found.p,
        tls: found.t,
        started_ms: found.s,
        took_ms: found.k,
        stage: found.g,
        reply: found.y,
        transcript: found.x,
    })
}

#[derive(Serialize)]
struct DetailOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    c: Option<CauseOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    u: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    w: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    o: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    h: Option<bool>,
}

#[derive(Deserialize)]
struct DetailIn {
    c: Option<CauseIn>,
    u: Option<i64>,
    w: Option<String>,
    o: Option<String>,
    h: Option<bool>,
}

/// Particulars of an event without its attempt; `None` if there are none.
pub(crate) fn detail(
    cause: Option<&Cause>,
    until_ms: Option<i64>,
    why: Option<&str>,
) -> Result<Option<String>, StoreError> {
    if cause.is_none() && until_ms.is_none() && why.is_none() {
        return Ok(None);
    }
    to_text(&DetailOut { c: cause.map(CauseOut::from), u: until_ms, w: why, o: None, h: None }).map(Some)
}

/// Particulars of a report that came later.
pub(crate) fn report_detail(
    cause: Option<&Cause>,
    why: Option<&str>,
    source: &str,
    severity: Severity,
) -> Result<String, StoreError> {
    let hard = Some(severity == Severity::Hard);
    to_text(&DetailOut { c: cause.map(CauseOut::from), u: None, w: why, o: Some(source), h: hard })
}

pub(crate) fn read_detail(text: Option<&str>, attempt: Option<Attempt>) -> Result<EventDetail, StoreError> {
    let Some(text) = text else { return Ok(EventDetail { attempt, ..EventDetail::default() }) };
    let found: DetailIn = serde_json::from_str(text).map_err(defect)?;
    let report = found.o.map(|source| ReportDetail {
        source,
        severity: if found.h == Some(true) { Severity::Hard } else { Severity::Soft },
    });
    Ok(EventDetail { attempt, cause: found.c.map(Cause::from), until_ms: found.u, why: found.w, report })
}

/// The generated column `rule` reads `r`.
#[derive(Serialize)]
struct CauseOut<'a> {
    s: Stage,
    f: &'a Failure,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<&'a str>,
}

impl<'a> From<&'a Cause> for CauseOut<'a> {
    fn from(cause: &'a Cause) -> Self {
        Self {
            s: cause.stage,
            f: &cause.failure,
            p: cause.provider.as_deref(),
            r: cause.rule.as_deref(),
            via: cause.unknown_via.as_deref(),
        }
    }
}

#[derive(Deserialize)]
struct CauseIn {
    s: Stage,
    f: Failure,
    p: Option<Arc<str>>,
    r: Option<Arc<str>>,
    via: Option<Arc<str>>,
}

impl From<CauseIn> for Cause {
    fn from(found: CauseIn) -> Self {
        Self { stage: found.s, failure: found.f, provider: found.p, rule: found.r, unknown_via: found.via }
    }
}

pub(crate) fn cause(cause: &Cause) -> Result<String, StoreError> {
    to_text(&CauseOut::from(cause))
}

pub(crate) fn read_cause(text: Option<&str>) -> Result<Option<Cause>, StoreError> {
    let read = |text| serde_json::from_str::<CauseIn>(text).map(Cause::from).map_err(defect);
    text.map(read).transpose()
}

/// The route that may have delivered already, from a recipient's stored cause.
pub(crate) fn read_via(cause: Option<&str>) -> Result<Option<Arc<str>>, StoreError> {
    // Seldom: most causes need not be read to know that.
    match cause.filter(|text| text.contains("\"via\":")) {
        Some(text) => Ok(serde_json::from_str::<CauseIn>(text).map_err(defect)?.via),
        None => Ok(None),
    }
}

/// An operator's wish that waits for the end of a lease.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) operation: Operation,
    pub(crate) who: String,
}

pub(crate) fn wish(wish: &Wish) -> Result<String, StoreError> {
    to_text(wish)
}

pub(crate) fn read_wish(text: Option<&str>) -> Result<Option<Wish>, StoreError> {
    text.map(|text| serde_json::from_str(text).map_err(defect)).transpose()
}

pub(crate) fn reverse_path(path: &ReversePath) -> &str {
    path.0.as_ref().map_or("", Address::as_str)
}

pub(crate) fn read_reverse_path(text: &str) -> Result<ReversePath, StoreError> {
    if text.is_empty() { Ok(ReversePath(None)) } else { Ok(ReversePath(Some(read_address(text)?))) }
}

pub(crate) fn read_address(text: &str) -> Result<Address, StoreError> {
    Address::parse(text).map_err(defect)
}
