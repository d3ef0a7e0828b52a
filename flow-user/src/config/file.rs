//! Reads the file of the configuration, within limits.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::place::Place;

/// The most bytes of a configuration; the longest sensible one has a tenth of it.
pub(super) const LARGEST: u64 = 64 << 10;

/// The reason why a file cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("{0}, not a file; move it away, and start from the output of `flow config`")]
    NotAFile(&'static str),
    #[error(
        "larger than the limit of {} KiB; move it away, and start from the output of `flow config`",
        LARGEST >> 10
    )]
    TooLarge,
    #[error("cannot be read: {0}; make it readable, or move it away")]
    Unreadable(io::Error),
    #[error("line {line} is not UTF-8 text; fix that line, or move the file away")]
    NotText { line: usize },
    #[error(
        "line {line} is not TOML: {problem}; fix that line (strings need quotes), or move the file away"
    )]
    NotToml { line: usize, problem: String },
}

/// The text of the file; `None` if there is none.
///
/// # Errors
/// The file cannot be used.
pub(super) fn read(place: &Place) -> Result<Option<String>, Unusable> {
    let bytes = place
        .with_rights(|| bytes(place.path()))
        .map_err(Unusable::Unreadable)??;
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => {
            let end = error.utf8_error().valid_up_to();
            let before = &error.as_bytes()[..end];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            Err(Unusable::NotText { line })
        }
    }
}

fn bytes(path: &Path) -> Result<Option<Vec<u8>>, Unusable> {
    // Checked before it is opened: opening a device may have effects, and a pipe would block.
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        found => found.map_err(Unusable::Unreadable)?,
    };
    check(&found)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(Unusable::Unreadable)?;
    // It may be another one by now.
    check(&file.metadata().map_err(Unusable::Unreadable)?)?;
    let mut bytes = Vec::new();
    let mut most = file.take(LARGEST + 1);
    most.read_to_end(&mut bytes).map_err(Unusable::Unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Unusable::TooLarge);
    }
    Ok(Some(bytes))
}

fn check(found: &fs::Metadata) -> Result<(), Unusable> {
    let kind = found.file_type();
    if kind.is_file() {
        return Ok(());
    }
    Err(Unusable::NotAFile(if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    fn error(path: &Path) -> String {
        read(&Place::at(path)).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_read_also_through_a_link_and_none_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        assert!(read(&Place::at(&path)).unwrap().is_none());
        fs::write(&path, "view = \"flows\"").unwrap();
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        let text = read(&Place::at(&link)).unwrap();
        assert_eq!(text.as_deref(), Some("view = \"flows\""));
        fs::write(&path, vec![b' '; usize::try_from(LARGEST).unwrap()]).unwrap();
        assert!(read(&Place::at(&path)).unwrap().is_some());
    }

    #[test]
    fn what_is_no_file_is_not_opened_and_nothing_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        symlink("/dev/zero", path("endless")).unwrap();
        for (found, kind) in [
            (folder.path().to_owned(), "a directory"),
            (path("pipe"), "a pipe"),
            (path("socket"), "a socket"),
            (path("endless"), "a device"),
        ] {
            assert!(error(&found).starts_with(kind), "{}", error(&found));
        }
        symlink(path("round"), path("round")).unwrap();
        assert!(error(&path("round")).contains("cannot be read"));
    }

    #[test]
    fn what_is_huge_or_no_text_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let file = fs::File::create(&path).unwrap();
        // A hole: it takes no room on the disk.
        file.set_len(1 << 40).unwrap();
        assert!(error(&path).contains("larger than the limit of 64 KiB"));
        fs::write(&path, b"a = 1\nb = 2\n\xff\xfe = 3").unwrap();
        assert!(error(&path).starts_with("line 3 is not UTF-8"));
    }
}
