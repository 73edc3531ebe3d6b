//! Is it a report, and whose form is it? Tables of what such mails have in common; the order is the order of looking.

mod phrases;

use self::phrases::*;
use super::model::AutoReplyKind;
use super::part::Fields;

/// Where a mark of a form is looked for; all in lower case.
#[derive(Debug, Clone, Copy)]
enum Mark {
    From(&'static str),
    Subject(&'static str),
    Notice(&'static str),
    /// A header field that is there.
    Field(&'static str),
    /// A header field with these words.
    FieldHas(&'static str, &'static str),
}

use Mark::{Field, FieldHas, From, Notice, Subject};

/// Forms by name: any of the marks decides.
const FORMS: &[(&str, &[Mark])] = &[
    ("facebook", &[From("@mx.facebook.com"), Notice("created automatically by facebook")]),
    (
        "amazonses",
        &[
            FieldHas("X-AWS-Outgoing", "."),
            Field("X-SES-Outgoing"),
            From(".amazonses.com"),
            Notice("\"notificationtype\""),
        ],
    ),
    ("amazonworkmail", &[FieldHas("X-Mailer", "amazon workmail"), FieldHas("X-Original-Mailer", "amazon workmail")]),
    ("googlegroups", &[From("@googlegroups.com"), Notice("the group you tried to contact")]),
    (
        "gmail",
        &[
            From("@googlemail.com"),
            FieldHas("Received", ".google.com"),
            Notice("technical details of permanent failure"),
        ],
    ),
    (
        "office365",
        &[
            Field("X-MS-Exchange-CrossTenant-Network-Message-Id"),
            Notice("office 365"),
            Notice("microsoft 365"),
            FieldHas("Received", ".prod.outlook.com"),
        ],
    ),
    ("outlook", &[From("@hotmail.com"), From("@outlook.com"), FieldHas("Received", ".hotmail.com")]),
    (
        "exchange2007",
        &[
            Notice("diagnostic information for administrators"),
            Notice("delivery has failed to these recipients"),
            FieldHas("Content-Language", "fr-fr"),
            Notice("informations de diagnostic pour les administrateurs"),
            Notice("#smtp#"),
            Field("X-MS-Exchange-Message-Is-Ndr"),
        ],
    ),
    (
        "exchange",
        &[
            Notice("did not reach the following recipient"),
            Notice("the mts-id of the original message"),
            FieldHas("X-Mailer", "internet mail service"),
            Field("X-MS-Embedded-Report"),
        ],
    ),
    (
        "smtpsvc",
        &[
            FieldHas("Received", "microsoft smtpsvc"),
            Notice("this is an automatically generated delivery status notification."),
        ],
    ),
    (
        "domino",
        &[
            Subject("delivery failure:"),
            FieldHas("X-MIMETrack", "domino"),
            Notice("not listed in domino directory"),
            Notice("domino directory"),
        ],
    ),
    ("notes", &[Notice("------- failure reasons"), Notice("name & address book"), FieldHas("X-Mailer", "notes")]),
    ("mailru", &[From("@corp.mail.ru"), FieldHas("Message-Id", ".mail.ru"), From(".mail.ru")]),
    ("yandex", &[From("@yandex.ru"), Notice("mail system at host yandex.ru"), FieldHas("X-Yandex-Front", ".")]),
    ("zoho", &[Field("X-ZohoMail"), From("@mail.zoho.com"), Notice("error_code :")]),
    ("gmx", &[FieldHas("Envelope-To", "@gmx"), From("@gmx."), Field("X-GMX-Antispam")]),
    ("einsundeins", &[From("@1and1."), From("kundenserver.de"), Field("X-UI-Out-Filterresults")]),
    ("ezweb", &[From("@ezweb.ne.jp"), Notice("each of the following recipients was rejected by a remote mail server")]),
    ("kddi", &[From("no-reply@app.auone-net.jp"), Notice("as their mailbox is full"), From("@au.com")]),
    ("docomo", &[From("@docomo.ne.jp")]),
    (
        "biglobe",
        &[From("biglobe.ne.jp"), Notice("-----non-delivered information"), Notice("----- non-delivered information")],
    ),
    ("mfilter", &[FieldHas("X-Mailer", "m-filter"), Notice("-------server message")]),
    ("activehunter", &[Field("X-AHMAILID")]),
    ("verizon", &[From("@vtext.com"), From("@vzwpix.com"), Notice("could not be delivered to mobile")]),
    ("aol", &[From("@aol.com"), From(".aol.com"), Field("X-AOL-IP")]),
    ("yahoo", &[Field("X-YMailISG"), From("@yahoo."), Notice("message from  yahoo"), Notice("message from yahoo")]),
    ("mailmarshal", &[Notice("the following recipients were affected"), FieldHas("X-Mailer", "mailmarshal")]),
    ("mimecast", &[FieldHas("Received", ".mimecast."), Field("X-Mimecast-Spam-Score")]),
    ("messagelabs", &[From("messagelabs"), Field("X-Msg-Ref")]),
    ("mxlogic", &[Field("X-MX-Bounce"), Field("X-MXL-Hash"), Field("X-MXL-NoteHash")]),
    ("mcafee", &[Field("X-NAI-Header"), Notice("--- the following addresses had delivery problems ---")]),
    ("surfcontrol", &[Field("X-SEF-ZeroHour-RefID"), Notice("- message non-deliverable")]),
    ("interscan", &[From("interscan"), Notice("interscan"), Notice("sent <<< rcpt to")]),
    ("trendmicro", &[FieldHas("X-Mailer", "trend micro"), Field("X-TM-AS-Product-Ver")]),
    ("mailfoundry", &[Field("X-MailFoundry"), Notice("mailfoundry")]),
    ("barracuda", &[Field("X-ASG-Debug-ID"), Field("X-Barracuda-Envelope-From")]),
    ("sendgrid", &[FieldHas("X-Mailer", "minimailer"), Notice("generated message from sendgrid")]),
    ("powermta", &[Field("X-PowerMTA-BounceCategory"), Notice("inform you on the delivery status of a")]),
    ("opensmtpd", &[Notice("this is the mailer-daemon, please do not reply to this e")]),
    ("dragonfly", &[Notice("this is the dragonfly mail agent")]),
    ("haraka", &[Notice("haraka"), FieldHas("Reporting-MTA", "haraka")]),
    (
        "stalwart",
        &[
            FieldHas("X-Mailer", "stalwart"),
            Notice("your message could not be delivered to the following recipients:\n\n<"),
        ],
    ),
    ("james", &[Notice("message details:\n"), Field("X-James"), FieldHas("Received", "james smtp")]),
    (
        "messagingserver",
        &[Notice("this report relates to a message you sent"), FieldHas("Content-Type", "boundary_(id_")],
    ),
    (
        "groupwise",
        &[
            Subject("message status - undeliverable"),
            FieldHas("X-Mailer", "groupwise"),
            Notice("the message that you sent was undeliverable"),
        ],
    ),
    (
        "courier",
        &[
            Notice("undeliverable mail"),
            From("courier"),
            Notice("delays in delivering your message"),
            FieldHas("Message-Id", "<courier."),
        ],
    ),
    ("communigate", &[FieldHas("Received", "communigate")]),
    ("mdaemon", &[From("mdaemon"), Field("X-MDaemon-Deliver-To"), Field("X-Actual-From")]),
    ("mailenable", &[Notice("mailenable:")]),
    (
        "imail",
        &[FieldHas("X-Mailer", "smtp32"), Notice("body of message generated response"), FieldHas("X-Mailer", "imail")],
    ),
    ("lsmtp", &[Notice("error-for:")]),
    ("fml", &[Field("X-MLServer"), Notice("not the members of this mailing list")]),
    ("qmail", &[Notice("qmail-send program"), FieldHas("Received", "qmail"), Subject("failure notice")]),
    (
        "exim",
        &[
            Field("X-Failed-Recipients"),
            Notice("created automatically by mail delivery software"),
            FieldHas("Received", "exim"),
        ],
    ),
    (
        "postfix",
        &[
            Notice("the postfix program"),
            Notice("this is the mail system at host"),
            FieldHas("Received", "(postfix)"),
            Notice("postfix program"),
        ],
    ),
    ("x6", &[Notice("we had trouble delivering your message")]),
    ("x3", &[Notice("smtp:rcpt host"), Notice("smtp:data host")]),
    (
        "sendmail",
        &[
            Notice("----- the following addresses had"),
            Notice("transcript of session follows"),
            Notice("the original message was received at"),
        ],
    ),
    ("x2", &[Notice("unable to deliver message to the following address")]),
];

/// What is known of a mail before its form is named.
#[derive(Debug)]
pub(super) struct Look<'a> {
    pub(super) fields: &'a Fields<'a>,
    /// `From`, in lower case, encoded words decoded.
    pub(super) from: String,
    /// `Subject`, likewise.
    pub(super) subject: String,
    /// Words of the report, in lower case.
    pub(super) notice: &'a str,
    /// Whether it shows a mail that came back.
    pub(super) has_copy: bool,
}

impl Look<'_> {
    fn has(&self, mark: Mark) -> bool {
        let field = |name: &str| self.fields.get(name);
        match mark {
            From(words) => has(&self.from, words),
            Subject(words) => has(&self.subject, words),
            Notice(words) => has(self.notice, words),
            Field(name) => field(name).is_some(),
            FieldHas("Received", words) => {
                // The server that wrote the report is in the lowest one.
                let fields = self.fields.scan.iter(self.fields.content);
                let first = fields.filter(|(name, _)| name.eq_ignore_ascii_case(b"Received")).last();
                first.is_some_and(|(_, value)| contains(value, words))
            }
            FieldHas(name, words) => field(name).is_some_and(|value| contains(value, words)),
        }
    }

    /// The name of the form.
    pub(super) fn form(&self) -> Option<&'static str> {
        FORMS.iter().find(|(_, marks)| marks.iter().any(|mark| self.has(*mark))).map(|(name, _)| *name)
    }

    /// Whether a mail without machine-readable part is a report of a failure.
    pub(super) fn is_bounce(&self, named: bool) -> bool {
        if self.fields.get("X-Failed-Recipients").is_some() {
            return true;
        }
        if REPLIES.iter().any(|start| self.subject.starts_with(start)) && !self.is_daemon() {
            return false;
        }
        let notice = FAILED.iter().any(|words| has(self.notice, words));
        let subject = SUBJECTS.iter().any(|words| has(&self.subject, words));
        match (self.is_daemon(), notice, subject) {
            (true, true, _) | (true, _, true) => true,
            (false, true, true) => self.has_copy || named || self.is_from_nobody(),
            (false, true, false) => self.is_from_nobody() && (self.has_copy || named),
            _ => false,
        }
    }

    fn is_daemon(&self) -> bool {
        let says =
            |value| contains(value, "report-type=delivery-status") || contains(value, "report-type=\"delivery-status");
        self.fields.get("Content-Type").is_some_and(says)
            || DAEMONS.iter().any(|name| has(&self.from, name))
            || self.from.contains("<>") && self.is_from_nobody()
    }

    fn is_from_nobody(&self) -> bool {
        self.from.trim().is_empty()
            || self.from.contains("<>")
            || self.fields.get("Return-Path").is_some_and(|path| path.trim_ascii() == b"<>")
    }

    /// Whether a program answered for a person.
    pub(super) fn auto_reply(&self) -> Option<AutoReplyKind> {
        let field = |name: &str| self.fields.get(name);
        let subject = AWAY.iter().any(|words| has(&self.subject, words));
        let replied = field("Auto-Submitted").is_some_and(|value| contains(value, "auto-replied"));
        let header = replied
            || ["X-Autoreply", "X-Autorespond", "X-Auto-Reply", "X-Autogenerated", "X-AutoReply-From"]
                .iter()
                .any(|name| field(name).is_some())
            || field("Precedence").is_some_and(|value| contains(value, "auto_reply"));
        if CHALLENGES.iter().any(|words| has(&self.subject, words) || has(self.notice, words)) {
            return Some(AutoReplyKind::Challenge);
        }
        (subject || header).then_some(AutoReplyKind::Answer)
    }

    /// Whether the words say that trying goes on.
    pub(super) fn is_delay(&self) -> bool {
        let says = |words: &&&str| has(self.notice, words) || has(&self.subject, words);
        GOES_ON.iter().any(|words| says(&words))
            || DELAYED.iter().any(|words| says(&words)) && !FINAL.iter().any(|words| says(&words))
    }
}

/// Whether a text in lower case holds words.
fn has(text: &str, words: &str) -> bool {
    memchr::memmem::find(text.as_bytes(), words.as_bytes()).is_some()
}

/// Whether octets hold words, whatever the case; `words` in lower case.
fn contains(octets: &[u8], words: &str) -> bool {
    octets.windows(words.len()).any(|window| window.eq_ignore_ascii_case(words.as_bytes()))
}
