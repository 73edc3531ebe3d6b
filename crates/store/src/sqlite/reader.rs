//! A small pool of threads with read-only connections.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::open;
use crate::{Pending, StoreError};

/// Questions that may wait.
const WAITING: usize = 10_000;

type Question = Box<dyn FnOnce(Result<&Connection, StoreError>) + Send>;

#[derive(Default)]
struct State {
    questions: VecDeque<Question>,
    closed: bool,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    arrived: Condvar,
}

/// The threads.
pub(super) struct ReaderPool {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl ReaderPool {
    /// Starts `threads` readers of a database; connections are opened when first needed.
    pub(super) fn start(database: &Path, threads: usize) -> Result<Self, StoreError> {
        let inner = Arc::new(Inner::default());
        let mut handles = Vec::new();
        for number in 0..threads.max(1) {
            let (inner, database) = (inner.clone(), database.to_owned());
            let handle = std::thread::Builder::new()
                .name(format!("store-read-{number}"))
                .spawn(move || serve(&inner, &database))
                .map_err(|error| StoreError::Internal(format!("reader thread: {error}")))?;
            handles.push(handle);
        }
        Ok(Self { inner, threads: Mutex::new(handles) })
    }

    /// Asks a question.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Pending<T> {
        let (sender, pending) = Pending::channel();
        let mut state = self.inner.state.lock();
        if state.closed {
            return Pending::ready(Err(StoreError::Closed));
        }
        if state.questions.len() >= WAITING {
            return Pending::ready(Err(StoreError::Overloaded));
        }
        state.questions.push_back(Box::new(move |connection| {
            let _ = sender.send(connection.and_then(question));
        }));
        drop(state);
        self.inner.arrived.notify_one();
        pending
    }

    /// Answers what waits and ends the threads.
    pub(super) fn close(&self) {
        self.inner.state.lock().closed = true;
        self.inner.arrived.notify_all();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(inner: &Inner, database: &Path) {
    let mut connection: Option<Connection> = None;
    loop {
        let question = {
            let mut state = inner.state.lock();
            loop {
                if let Some(question) = state.questions.pop_front() {
                    break question;
                }
                if state.closed {
                    return;
                }
                inner.arrived.wait(&mut state);
            }
        };
        if connection.is_none() {
            match open::read_only(database) {
                Ok(opened) => connection = Some(opened),
                Err(error) => {
                    question(Err(error));
                    continue;
                }
            }
        }
        if let Some(connection) = &connection {
            question(Ok(connection));
        }
    }
}
