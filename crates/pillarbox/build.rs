//! Puts the templates of the pages into the program, and the viewer of the API's document.

use std::fs::File;
use std::io::{self, Cursor};
use std::path::PathBuf;

/// What the viewer is made of, in its archive and here (packed).
const VIEWER: &[&str] = &["swagger-ui-bundle.js", "swagger-ui.css"];

fn main() -> io::Result<()> {
    minijinja_embed::embed_templates!("pages", &[".html", ".svg"][..]);
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let archive = Cursor::new(utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED);
    let mut archive = zip::ZipArchive::new(archive).map_err(io::Error::other)?;
    for wanted in VIEWER {
        let ending = format!("/dist/{wanted}");
        let mut names = archive.file_names().filter_map(Result::ok);
        let name = names.find(|name| name.ends_with(&ending)).map(|name| name.into_owned());
        drop(names);
        let name = name.ok_or_else(|| io::Error::other(format!("{wanted} is not in the archive of the viewer")))?;
        let mut from = archive.by_name(&name).map_err(io::Error::other)?;
        let to = File::create(out.join(format!("{wanted}.gz")))?;
        let mut to = flate2::write::GzEncoder::new(to, flate2::Compression::best());
        io::copy(&mut from, &mut to)?;
        to.finish()?;
    }
    Ok(())
}
