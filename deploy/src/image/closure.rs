//! Which shared libraries a program needs, as `ldd` says.

use super::ImageError;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A shared library, or the loader, at the path where it is looked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Library {
    pub path: PathBuf,
}

/// glibc before 2.34 opens these by name while it resolves host names; no program links against them.
const OPENED_BY_NAME: &[&str] = &["libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"];

/// The libraries of a program or library, none of a static one.
///
/// # Errors
/// When `ldd` cannot be run, or a library is missing.
pub fn libraries(program: &Path) -> Result<Vec<Library>, ImageError> {
    let failed = |why: String| ImageError::Libraries { program: program.to_owned(), why };
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    // glibc's ldd says it on stdout or on stderr, and ends with 1.
    if complaint.contains("not a dynamic executable") {
        return Ok(vec![]);
    }
    let mut found = parse_ldd(&text).map_err(failed)?;
    if !output.status.success() && found.is_empty() && !is_static(&text) {
        return Err(failed(format!("{}: {}", output.status, complaint.trim())));
    }
    if let Some(libc) = found.iter().find(|it| it.path.file_name().is_some_and(|it| it == "libc.so.6")).cloned() {
        let beside = OPENED_BY_NAME.iter().map(|name| libc.path.with_file_name(name)).filter(|it| it.exists());
        found.extend(beside.map(|path| Library { path }));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Reads what `ldd` prints.
///
/// # Errors
/// When it says that a library was not found.
pub fn parse_ldd(text: &str) -> Result<Vec<Library>, String> {
    let mut found = vec![];
    if is_static(text) {
        return Ok(found);
    }
    for line in text.lines().map(str::trim) {
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        if place == "not found" {
            return Err(format!("{name} is not found"));
        }
        let path = place.split(" (0x").next().unwrap_or_default().trim();
        // linux-vdso.so.1 is the kernel's and has no path.
        if path.starts_with('/') && !path.ends_with(':') {
            found.push(Library { path: path.into() });
        }
    }
    Ok(found)
}

fn is_static(text: &str) -> bool {
    text.contains("statically linked") || text.contains("not a dynamic executable")
}
