//! Returned mail read per second and core: the fixtures of the tests, each once per round.

use divan::counter::{BytesCount, ItemsCount};

fn main() {
    divan::main();
}

fn mails() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bounces");
    let files = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mails = files.filter(|path| path.extension().is_some_and(|end| end == "eml"));
    mails.filter_map(|path| std::fs::read(path).ok()).collect()
}

#[divan::bench]
fn classify(bencher: divan::Bencher<'_, '_>) {
    let mails = mails();
    let octets: usize = mails.iter().map(Vec::len).sum();
    bencher.counter(ItemsCount::new(mails.len())).counter(BytesCount::new(octets)).bench(|| {
        for mail in &mails {
            divan::black_box(proto::report::classify(divan::black_box(mail)));
        }
    });
}
