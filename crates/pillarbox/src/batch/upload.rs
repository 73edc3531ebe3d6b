//! A batch as it comes over the wire: JSON lines, read as a stream, checked in pieces on threads of their own, stored out of
//! sight while it is still coming, and made visible by one commit when all of it was good.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use axum::body::BodyDataStream;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{FuturesOrdered, StreamExt};
use relay::batch::{BatchIntake, BatchOptions, Routes};
use store::{BatchId, NewRow, Pending};

use super::engine::{Data, Engine};
use super::input::{self, ADDRESS, BatchIn, Duplicates};
use super::merge::{self, Merge};
use super::{MAX_NAMED, MAX_OCTETS, MAX_ROW, MAX_ROWS, RowFault};
use crate::http::problem::{Problem, RowError};

/// Lines checked in one piece.
const PIECE_LINES: usize = 512;
/// Octets checked in one piece.
const PIECE_OCTETS: usize = 256 * 1024;
/// Pieces being checked at once.
const PIECES: usize = 3;

/// The lines of a request's body.
pub struct Lines {
    stream: BodyDataStream,
    buffer: BytesMut,
    /// Where to look for the next line's end.
    looked: usize,
    hash: blake3::Hasher,
    octets: u64,
    number: u32,
    ended: bool,
}

/// A line with its number, from 1.
struct Line {
    number: u32,
    /// `None`: it was too long.
    text: Option<Bytes>,
}

impl Lines {
    /// Of a body.
    pub fn new(stream: BodyDataStream) -> Self {
        let buffer = BytesMut::with_capacity(64 * 1024);
        Self { stream, buffer, looked: 0, hash: blake3::Hasher::new(), octets: 0, number: 0, ended: false }
    }

    /// The next line that is not empty. One longer than `most` is skipped and comes as none.
    async fn next(&mut self, most: usize, in_all: u64) -> Result<Option<Line>, Problem> {
        let mut skipped = false;
        loop {
            if let Some(found) = memchr::memchr(b'\n', &self.buffer[self.looked..]) {
                let line = self.buffer.split_to(self.looked + found + 1);
                self.looked = 0;
                if let Some(line) = self.line(&line[..line.len() - 1], most, &mut skipped) {
                    return Ok(Some(line));
                }
                continue;
            }
            self.looked = self.buffer.len();
            if self.looked > most {
                skipped = true;
                self.buffer.clear();
                self.looked = 0;
            }
            if self.ended {
                let line = self.buffer.split();
                self.looked = 0;
                return Ok(if line.is_empty() && !skipped { None } else { self.line(&line, most, &mut skipped) });
            }
            self.read(in_all).await?;
        }
    }

    fn line(&mut self, text: &[u8], most: usize, skipped: &mut bool) -> Option<Line> {
        self.number = self.number.saturating_add(1);
        let number = self.number;
        if std::mem::take(skipped) || text.len() > most {
            return Some(Line { number, text: None });
        }
        let text = text.trim_ascii();
        (!text.is_empty()).then(|| Line { number, text: Some(Bytes::copy_from_slice(text)) })
    }

    async fn read(&mut self, in_all: u64) -> Result<(), Problem> {
        match self.stream.next().await {
            None => self.ended = true,
            Some(Ok(octets)) => {
                self.octets += octets.len() as u64;
                if self.octets > in_all {
                    return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the request body is too large"));
                }
                self.hash.update(&octets);
                self.buffer.extend_from_slice(&octets);
            }
            Some(Err(_)) => {
                self.ended = true;
                return Err(Problem::new(StatusCode::BAD_REQUEST, "the request body broke off"));
            }
        }
        Ok(())
    }

    /// Reads what is left without a look at it: a client that is still writing does not hear an answer.
    pub async fn drain(&mut self) {
        while !self.ended && self.octets <= MAX_OCTETS {
            self.buffer.clear();
            if self.read(u64::MAX).await.is_err() {
                return;
            }
        }
    }
}

/// What is done with a batch besides checking it.
pub struct Plan {
    /// Only check, and show the messages of so many rows.
    pub dry_run: Option<usize>,
    /// `Idempotency-Key`.
    pub key: Option<String>,
    /// Our name, in message ids.
    pub hostname: String,
}

/// What came of it.
pub enum Outcome {
    /// Durable under this name.
    Accepted {
        /// The batch.
        id: BatchId,
        /// It was accepted by an earlier request.
        replayed: bool,
    },
    /// Checked and forgotten.
    Checked {
        /// Rows.
        rows: u32,
        /// The first of them.
        shown: Vec<Data>,
        /// To show them with.
        merge: Box<Merge>,
    },
}

/// The first line, read.
pub struct Header {
    text: String,
    /// As it was meant.
    pub batch: BatchIn,
    engine: Engine,
}

impl Header {
    /// Reads and checks the first line, of at most `most` octets.
    pub async fn read(lines: &mut Lines, most: usize, now_ms: i64) -> Result<Self, Problem> {
        let line = lines.next(most, most as u64 + MAX_OCTETS).await?;
        let missing = "the first line holds `template` and `from`; one row of merge data follows on each line";
        let line = line.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, missing))?;
        let too_large = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the first line is too large");
        let text = line.text.ok_or_else(too_large)?;
        let batch: BatchIn = crate::http::json::parse(&text)?;
        let mut errors = batch.problems(now_ms);
        match Engine::new(&batch.template) {
            Ok(engine) if errors.is_empty() => {
                let text = String::from_utf8_lossy(&text).into_owned();
                Ok(Self { text, batch, engine })
            }
            Ok(_) => Err(Problem::fields(errors)),
            Err(more) => {
                errors.extend(more);
                Err(Problem::fields(errors))
            }
        }
    }
}

/// Checks rows, on any thread.
struct Checker {
    engine: Engine,
    routes: Routes,
    fields: Vec<String>,
    /// Octets that bodies may have beside the attachments.
    room: usize,
}

/// A piece of the rows, checked.
#[derive(Default)]
struct Checked {
    rows: Vec<(u32, NewRow)>,
    bad: Vec<RowError>,
    bad_in_all: u32,
    shown: Vec<Data>,
}

impl Checked {
    fn refuse(&mut self, line: u32, fault: RowFault) {
        self.bad_in_all += 1;
        if self.bad.len() < MAX_NAMED {
            self.bad.push(RowError { line, field: fault.field, detail: fault.detail });
        }
    }
}

impl Checker {
    fn piece(&self, lines: Vec<(Line, u32)>, show: usize) -> Checked {
        let mut checked = Checked::default();
        for (line, n) in lines {
            let number = line.number;
            match self.row(line, n) {
                Ok((row, data)) => {
                    checked.rows.push((number, row));
                    if checked.shown.len() < show {
                        checked.shown.push(data);
                    }
                }
                Err(fault) => checked.refuse(number, fault),
            }
        }
        checked
    }

    fn row(&self, line: Line, n: u32) -> Result<(NewRow, Data), RowFault> {
        let text = line.text.ok_or_else(|| RowFault::new("", format!("is larger than {} KiB", MAX_ROW / 1024)))?;
        let data = input::row(&text)?;
        let to = input::mailbox(&data)?;
        self.routes.check(&to.address).map_err(|why| RowFault::new(ADDRESS, why))?;
        if self.engine.check(&data)? > self.room {
            return Err(RowFault::new("template", "its message is larger than the sender may send"));
        }
        let row = NewRow { n, address: to.address, data: input::packed(&data, &self.fields) };
        Ok((row, data))
    }
}

/// Rows on their way from the wire to the store.
struct Upload {
    intake: BatchIntake,
    begun: bool,
    rows: u32,
    bad: Vec<RowError>,
    bad_in_all: u32,
    /// Hashes of addresses with their lines, where each may be there once.
    seen: Option<HashMap<u64, u32>>,
    shown: Vec<Data>,
    storing: Option<Pending<()>>,
}

/// Takes a batch in.
pub async fn receive(lines: &mut Lines, header: Header, intake: BatchIntake, plan: Plan) -> Result<Outcome, Problem> {
    let Header { text, batch, engine } = header;
    let in_all = lines.octets + MAX_OCTETS;
    let mut piece = read_piece(lines, &mut 0, in_all).await?;
    let mut n = piece.len() as u32;
    let first = piece.first().and_then(|(line, _)| input::row(line.text.as_ref()?).ok());
    let fields: Vec<String> = first.map(|data| data.keys().cloned().collect()).unwrap_or_default();
    let attached: usize = batch.template.attachments.iter().map(|one| one.content.len()).sum();
    let room = usize::try_from(intake.max_size()).unwrap_or(usize::MAX).saturating_sub(attached);
    let checker = Arc::new(Checker { engine, routes: intake.routes(), fields: fields.clone(), room });
    let seen = (batch.duplicates == Duplicates::Refuse).then(HashMap::new);
    let options = BatchOptions {
        label: batch.label(),
        start_ms: batch.send_at.map(|time| time.0),
        spread_ms: batch.spread.map(|span| span.0),
        test: batch.test,
        body: merge::body(&text, &fields),
    };
    drop(text);
    // Attachments may be large, and only what is shown needs them again.
    let batch = plan.dry_run.is_some().then_some(batch);
    let mut upload = Upload {
        intake,
        begun: false,
        rows: 0,
        bad: Vec::new(),
        bad_in_all: 0,
        seen,
        shown: Vec::new(),
        storing: None,
    };
    if plan.dry_run.is_none() {
        upload.intake.begin(options).await?;
        upload.begun = true;
    }
    let show = plan.dry_run.unwrap_or(0);
    let mut checking = FuturesOrdered::new();
    loop {
        if !piece.is_empty() {
            let (checker, lines) = (checker.clone(), std::mem::take(&mut piece));
            checking.push_back(tokio::task::spawn_blocking(move || checker.piece(lines, show)));
        }
        if n <= MAX_ROWS && checking.len() < PIECES {
            piece = read_piece(lines, &mut n, in_all).await?;
            if !piece.is_empty() {
                continue;
            }
        }
        match checking.next().await {
            Some(checked) => upload.heed(checked.unwrap_or_default(), show).await?,
            None => break,
        }
    }
    if n > MAX_ROWS {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("a batch has at most {MAX_ROWS} rows")));
    }
    let fingerprint = *lines.hash.finalize().as_bytes();
    upload.finish(n, plan, fingerprint, batch, checker).await
}

/// Lines for one piece, with their positions.
async fn read_piece(lines: &mut Lines, n: &mut u32, in_all: u64) -> Result<Vec<(Line, u32)>, Problem> {
    let (mut piece, mut octets) = (Vec::new(), 0);
    while piece.len() < PIECE_LINES && octets < PIECE_OCTETS {
        let Some(line) = lines.next(MAX_ROW, in_all).await? else { break };
        octets += line.text.as_ref().map_or(0, Bytes::len);
        piece.push((line, *n));
        *n += 1;
    }
    Ok(piece)
}

impl Upload {
    async fn heed(&mut self, mut checked: Checked, show: usize) -> Result<(), Problem> {
        self.find_duplicates(&mut checked);
        let room = MAX_NAMED - self.bad.len();
        self.bad.extend(checked.bad.into_iter().take(room));
        self.bad_in_all += checked.bad_in_all;
        self.rows += checked.rows.len() as u32;
        let room = show - self.shown.len().min(show);
        self.shown.extend(checked.shown.into_iter().take(room));
        // One bad row and none is stored: the others are only looked at.
        if self.begun && self.bad_in_all == 0 && !checked.rows.is_empty() {
            self.stored().await?;
            let rows = checked.rows.into_iter().map(|(_, row)| row).collect();
            self.storing = Some(self.intake.add(rows));
        }
        Ok(())
    }

    async fn stored(&mut self) -> Result<(), Problem> {
        match self.storing.take() {
            Some(storing) => Ok(storing.await?),
            None => Ok(()),
        }
    }

    fn find_duplicates(&mut self, checked: &mut Checked) {
        let Some(seen) = &mut self.seen else { return };
        let mut doubles = Vec::new();
        for (line, row) in &checked.rows {
            let mut hasher = DefaultHasher::new();
            row.address.as_str().to_lowercase().hash(&mut hasher);
            match seen.entry(hasher.finish()) {
                Entry::Occupied(first) => doubles.push((*line, *first.get())),
                Entry::Vacant(place) => drop(place.insert(*line)),
            }
        }
        for (line, first) in doubles {
            checked.refuse(line, RowFault::new(ADDRESS, format!("is the same as in line {first}")));
        }
    }

    async fn finish(
        mut self,
        n: u32,
        plan: Plan,
        fingerprint: [u8; 32],
        batch: Option<BatchIn>,
        checker: Arc<Checker>,
    ) -> Result<Outcome, Problem> {
        if self.bad_in_all > 0 {
            self.bad.sort_by_key(|error| error.line);
            return Err(Problem::rows(self.bad, self.bad_in_all));
        }
        if n == 0 {
            let detail = "the batch has no rows: one JSON object on each line behind the first";
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        if self.rows != n {
            return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "not all rows could be checked"));
        }
        if let Some(batch) = batch {
            let broken = |why: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why);
            let checker = Arc::into_inner(checker).ok_or_else(|| broken("rows are still being checked".into()))?;
            let merge = Merge::new(batch, checker.engine, checker.fields, plan.hostname).map_err(broken)?;
            return Ok(Outcome::Checked { rows: n, shown: self.shown, merge: Box::new(merge) });
        }
        self.stored().await?;
        let key = plan.key.map(|key| (key, fingerprint));
        let own = self.intake.id();
        let id = self.intake.commit(n, key).await?;
        Ok(Outcome::Accepted { id, replayed: id != own })
    }
}
