//! Turns the rule and data files into JSON once, at build time: reading JSON at every start is ten times cheaper than
//! reading TOML. Samples go into a file of their own, which only tests and `pillarbox rules` read.
//!
//! Knows nothing of rules but the word `samples`: what the fields mean is checked at run time, as for a user's files.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=rules");
    println!("cargo::rerun-if-changed=data");
    let mut files = Vec::new();
    let mut samples = Map::new();
    for path in toml_files(Path::new("rules"))? {
        let mut file = read(&path)?;
        take_samples(&mut file, &mut samples);
        files.push(Value::from(vec![name_of(&path).into(), file]));
    }
    fs::write(out.join("rules.json"), serde_json::to_string(&files)?)?;
    fs::write(out.join("samples.json"), serde_json::to_string(&samples)?)?;
    for path in toml_files(Path::new("data"))? {
        let name = path.with_extension("json");
        let name = name.file_name().ok_or("a file without a name")?;
        fs::write(out.join(name), serde_json::to_string(&read(&path)?)?)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Value> {
    toml::from_str(&fs::read_to_string(path)?).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// `rules/providers/google.toml`, on every system.
fn name_of(path: &Path) -> String {
    path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// All files of a directory and those below it, by name.
fn toml_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            all.extend(toml_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

fn take_samples(file: &mut Value, samples: &mut Map<String, Value>) {
    let rules = file.get_mut("rule").and_then(Value::as_array_mut).into_iter().flatten();
    for rule in rules.filter_map(Value::as_object_mut) {
        if let (Some(own), Some(Value::String(id))) = (rule.remove("samples"), rule.get("id")) {
            samples.insert(id.clone(), own);
        }
    }
}
